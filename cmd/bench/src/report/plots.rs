//! The plots, as SVG.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::options::Scenario;
use crate::record::{Curve, Plot};
use crate::results::Results;

const SIZE: (u32, u32) = (860, 460);
const FONT: &str = "sans-serif";
/// Told apart also by people who see few colours, and on paper.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(90, 90, 90),
];

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The name of a scenario's plot, without its ending.
pub(super) fn name_of(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Many => "receivers",
        Scenario::Latency => "latency",
        Scenario::Backlog => "backlog",
        Scenario::Outage => "outage",
        _ => "",
    }
}

/// Every plot that there are curves for: its file's name, and its text.
///
/// # Errors
/// What the plotter says.
pub(super) fn draw(
    results: &Results,
) -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut files = Vec::new();
    for record in &results.scenarios {
        let Some(first) = record.curves.first() else { continue };
        let mut text = String::new();
        match first.plot {
            Plot::Receivers => receivers(&mut text, &record.curves)?,
            Plot::Latency => latency(&mut text, &record.curves)?,
            Plot::Backlog => backlog(&mut text, &record.curves)?,
            Plot::Outage => outage(&mut text, &record.curves)?,
        }
        files.push((format!("{}.svg", name_of(record.scenario)), text));
    }
    Ok(files)
}

fn receivers(to: &mut String, curves: &[Curve]) -> Drawn {
    let [[_, x], _] = ends(curves);
    let ticks = |value: &f64| format!("{value:.0}");
    let axes = Axes {
        title: "deliveries a second, over the number of receivers",
        x: "receivers",
        y: "deliveries a second, all receivers together",
    };
    let x = (1.0..x.max(2.0)).log_scale().base(2.0);
    lines(to, &axes, curves, x, tall(curves).log_scale(), ticks, short)
}

fn backlog(to: &mut String, curves: &[Curve]) -> Drawn {
    let [[_, x], _] = ends(curves);
    let axes = Axes {
        title: "deliveries a second, over the size of the backlog",
        x: "messages waiting when it begins",
        y: "deliveries a second, one receiver",
    };
    let x = (1_000.0..x.max(10_000.0)).log_scale();
    lines(to, &axes, curves, x, tall(curves).log_scale(), short, short)
}

/// With and without batching are far apart; and above them there is room for the legend.
fn tall(curves: &[Curve]) -> Range<f64> {
    let [_, [least, most]] = ends(curves);
    least.max(1.0) * 0.7..most.max(10.0) * 4.0
}

fn latency(to: &mut String, curves: &[Curve]) -> Drawn {
    // The last percent is what matters: each further nine takes as much room as all before the first.
    let nines = |percent: f64| -(1.0 - percent / 100.0).log10();
    let curves: Vec<Curve> = curves
        .iter()
        .map(|curve| {
            let points = curve.points.iter().map(|[percent, time]| [nines(*percent), *time]);
            Curve { points: points.collect(), ..curve.clone() }
        })
        .collect();
    let [[_, x], _] = ends(&curves);
    let axes = Axes {
        title: "time from send to handler at 1,000 messages a second",
        x: "share of the messages that took no longer",
        y: "microseconds",
    };
    let share = |value: &f64| match value.round() as i32 {
        n if (value - value.round()).abs() > 0.01 || n < 0 => String::new(),
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        n => format!("99{}{} %", if n > 2 { "." } else { "" }, "9".repeat(n as usize - 2)),
    };
    lines(to, &axes, &curves, 0.0..x.max(2.0), tall(&curves).log_scale(), share, short)
}

/// What stands at a plot.
struct Axes {
    title: &'static str,
    x: &'static str,
    y: &'static str,
}

fn lines<X, Y>(
    to: &mut String,
    axes: &Axes,
    curves: &[Curve],
    x: X,
    y: Y,
    x_text: impl Fn(&f64) -> String,
    y_text: impl Fn(&f64) -> String,
) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(to, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(told)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(axes.title, (FONT, 18))
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)
        .map_err(told)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(222, 222, 222))
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .label_style((FONT, 14))
        .draw()
        .map_err(told)?;
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let points = || curve.points.iter().map(|[x, y]| (*x, *y));
        let line = LineSeries::new(points(), color.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(told)?
            .label(curve.name.as_str())
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
        if curve.points.len() <= 12 {
            let marks = points().map(|point| Circle::new(point, 4, color.filled()));
            chart.draw_series(marks).map_err(told)?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 14))
        .draw()
        .map_err(told)?;
    root.present().map_err(told)
}

fn outage(to: &mut String, curves: &[Curve]) -> Drawn {
    let points = |name: &str| -> Vec<(f64, f64)> {
        let curve = curves.iter().find(|curve| curve.name == name);
        curve.map_or_else(Vec::new, |curve| curve.points.iter().map(|[x, y]| (*x, *y)).collect())
    };
    let (rate, waiting, away) =
        (points("delivered a second"), points("waiting"), points("server away"));
    let end = rate.last().map_or(1.0, |last| last.0);
    let top = |points: &[(f64, f64)]| points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.08;
    let root = SVGBackend::with_string(to, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(told)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("an outage, and how it is caught up with", (FONT, 18))
        .x_label_area_size(46)
        .y_label_area_size(70)
        .right_y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..top(&rate))
        .map_err(told)?
        .set_secondary_coord(0.0..end, 0.0..top(&waiting));
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(222, 222, 222))
        .x_desc("seconds")
        .y_desc("delivered a second")
        .x_label_formatter(&|value| format!("{value:.1}"))
        .y_label_formatter(&short)
        .label_style((FONT, 14))
        .draw()
        .map_err(told)?;
    chart
        .configure_secondary_axes()
        .y_desc("messages waiting")
        .y_label_formatter(&short)
        .label_style((FONT, 14))
        .draw()
        .map_err(told)?;
    if let [(cut, _), (whole, _)] = away[..] {
        let grey = RGBColor(120, 120, 120).mix(0.18);
        let band = Rectangle::new([(cut, 0.0), (whole, top(&rate))], grey.filled());
        chart
            .draw_series([band])
            .map_err(told)?
            .label("the server is away")
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], grey.filled()));
    }
    let [blue, orange, ..] = COLORS;
    chart
        .draw_series(LineSeries::new(rate, blue.stroke_width(2)))
        .map_err(told)?
        .label("delivered a second")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], blue.stroke_width(3)));
    chart
        .draw_secondary_series(LineSeries::new(waiting, orange.stroke_width(2)))
        .map_err(told)?
        .label("waiting (right axis)")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], orange.stroke_width(3)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 14))
        .draw()
        .map_err(told)?;
    root.present().map_err(told)
}

/// The least and the greatest x, and the same of y.
fn ends(curves: &[Curve]) -> [[f64; 2]; 2] {
    [0, 1].map(|axis| {
        let values = || curves.iter().flat_map(|curve| &curve.points).map(|point| point[axis]);
        [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)]
    })
}

/// 1500000 as `1.5M`.
fn short(value: &f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (*value, ""),
    };
    let text = format!("{value:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

fn told(error: impl std::error::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(plot: Plot, name: &str, points: &[[f64; 2]]) -> Curve {
        Curve { plot, name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn every_plot_is_drawn_also_with_a_single_point() {
        let mut text = String::new();
        receivers(&mut text, &[curve(Plot::Receivers, "a", &[[1.0, 9_000.0], [2.0, 15_000.0]])])
            .expect("drawn");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
        for points in [&[[1_000.0, 5.0]][..], &[[1_000.0, 5.0], [10_000.0, 6.0]]] {
            backlog(&mut String::new(), &[curve(Plot::Backlog, "a", points)]).expect("drawn");
        }
        let times = [[0.0, 50.0], [50.0, 80.0], [99.0, 200.0], [99.99, 4_000.0]];
        latency(&mut String::new(), &[curve(Plot::Latency, "a", &times)]).expect("drawn");
        let outages = [
            curve(Plot::Outage, "delivered a second", &[[0.1, 5.0], [0.2, 0.0]]),
            curve(Plot::Outage, "waiting", &[[0.1, 0.0], [0.2, 7.0]]),
        ];
        outage(&mut String::new(), &outages).expect("drawn");
    }

    #[test]
    fn axes_are_short() {
        let text = [0.0, 950.0, 1_000.0, 1_500.0, 2_000_000.0].map(|value| short(&value));
        assert_eq!(text, ["0", "950", "1k", "1.5k", "2M"]);
    }
}
