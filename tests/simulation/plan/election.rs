//! Who elects, which states masters set, and what happens to masters.

use std::time::Duration;

use waypost::protocol::election::{Mode, Settings, Times};
use waypost::protocol::leadership::Change;

use super::faults::{away, how};
use super::{Act, Plan};
use crate::dice::Dice;
use crate::plan::acts::Strike;

/// Faster than the default by three.
const QUICK: Times = Times {
    beat: Duration::from_millis(300),
    lost_after: Duration::from_secs(1),
    jitter: Duration::from_millis(300),
    lease_margin: Duration::from_millis(200),
    handoff: Duration::from_millis(300),
};

impl Plan {
    /// One in three has an election. What else happens is as it is without.
    pub(super) fn add_election(&mut self) {
        let mut dice = Dice::new(self.seed ^ 0xe1ec_0000_0000_0000);
        if dice.below(3) > 0 {
            return;
        }
        let settings = self.election(&mut dice);
        // All is broadcast, and what was held up comes together.
        self.busy_factor = 10;
        let off = dice.permille(300);
        for (number, node) in self.nodes.iter_mut().enumerate() {
            // Whoever is no voter follows, or knows nothing of it.
            if number < 3 || !off {
                node.settings.election = Some(settings.clone());
            }
        }
        self.add_states(&mut dice);
        for _ in 0..dice.below(6) {
            let strike = self.strike(&mut dice);
            self.sometime(&mut dice, Act::Lead(strike));
        }
    }

    fn election(&self, dice: &mut Dice) -> Settings {
        let voters = if self.nodes.len() >= 5 && dice.coin() { 5 } else { 3 };
        let mode = if dice.permille(250) {
            Mode::Visible
        } else {
            Mode::Quorum {
                voters: self.nodes.iter().take(voters).map(|it| it.id.clone()).collect(),
            }
        };
        let times = *dice.pick(&[Times::default(), QUICK]);
        Settings { times, ..Settings::new(mode) }
    }

    fn add_states(&mut self, dice: &mut Dice) {
        for number in 0..dice.between(0, 30) {
            let json = format!(r#"{{"whole":{number}}}"#);
            let field = || Change::Field { key: "field".to_owned(), value: number.into() };
            let whole = Change::Whole(json.into_bytes());
            let change = if dice.permille(300) { field() } else { whole };
            self.sometime(dice, Act::SetState(change));
        }
    }

    fn strike(&self, dice: &mut Dice) -> Strike {
        let (how, away) = (how(dice), away(dice));
        let others = [None, Some(dice.pick(&self.nodes).id.clone())];
        match dice.below(8) {
            0 => Strike::Crash { how, away },
            1 => Strike::Fuse { actions: dice.below(12) as u32, how, away },
            2 => Strike::Freeze { pause: away },
            3 => Strike::Sever { pause: away },
            4 => Strike::Stop { within: dice.millis(0, 5_000), away },
            5 => Strike::FailSync,
            6 => Strike::DiskAway { pause: away },
            _ => Strike::HandOver { to: dice.pick(&others).clone() },
        }
    }

    fn sometime(&mut self, dice: &mut Dice, act: Act) {
        let at = dice.millis(0, self.faults_end.as_millis() as u64 - 1);
        self.acts.push((at, act));
    }
}
