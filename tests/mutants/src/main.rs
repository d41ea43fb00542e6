//! Plants faults in a copy of the library, and has the simulation find them: `scripts/mutants`.

mod list;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use list::{MUTANTS, Mutant};

/// Plants faults in a copy of the library, one at a time, and runs the simulation: each has to be found.
#[derive(Parser)]
#[command(name = "mutants")]
struct Args {
    /// Only faults whose name contains one of these
    names: Vec<String>,
    /// Simulations within which a fault is to be found
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Print the names and do nothing
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let wanted = |it: &&Mutant| {
        args.names.is_empty() || args.names.iter().any(|name| it.name.contains(&**name))
    };
    let wanted: Vec<&Mutant> = MUTANTS.iter().filter(wanted).collect();
    ensure!(!wanted.is_empty(), "no fault is called like that: see --list");
    if args.list {
        wanted.iter().for_each(|mutant| println!("{} ({})", mutant.name, mutant.file));
        return Ok(ExitCode::SUCCESS);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let copy = tempfile::Builder::new().prefix("waypost-mutants-").tempdir()?;
    plant(&root, copy.path())?;
    eprintln!("mutants: building the simulation with {} faults in it", MUTANTS.len());
    let simulation = build(copy.path())?;
    ensure!(
        run(&simulation, "", args.seeds.min(200))?.0,
        "without a fault the simulation fails already"
    );
    let mut missed = 0;
    for mutant in &wanted {
        let begun = Instant::now();
        let (fine, what) = run(&simulation, mutant.name, args.seeds)?;
        missed += usize::from(fine);
        let took = Duration::from_secs(begun.elapsed().as_secs());
        let what = if fine { format!("NOT FOUND in {} seeds", args.seeds) } else { what };
        println!("{}: {what} ({took:?})", mutant.name);
    }
    println!("{} of {} faults found", wanted.len() - missed, wanted.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the code of a fault becomes.
fn planted(source: &str, mutant: &Mutant) -> Result<String> {
    let Mutant { name, file, text, instead } = mutant;
    let places = source.matches(text).count();
    ensure!(places == 1, "{file} has the place of this fault {places} times: {name}");
    let is_wanted = format!("crate::protocol::mutant({name:?})");
    Ok(source.replacen(text, &instead.replace("MUTANT", &is_wanted), 1))
}

/// Copies what is needed to build the simulation, with all faults in it.
fn plant(root: &Path, copy: &Path) -> Result<()> {
    for part in [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "src",
        "migrations",
        "cmd",
        "tests",
        "benches",
        "examples",
    ] {
        copy_tree(&root.join(part), &copy.join(part))?;
    }
    let protocol = copy.join("src/protocol");
    for mutant in MUTANTS {
        let path = protocol.join(mutant.file);
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, planted(&source, mutant)?)?;
    }
    let path = protocol.join("mod.rs");
    let source = fs::read_to_string(&path)?;
    fs::write(&path, source + WANTED)?;
    Ok(())
}

const WANTED: &str = r#"
pub(crate) fn mutant(name: &str) -> bool {
    static WANTED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("WAYPOST_MUTANT").ok());
    WANTED.as_deref() == Some(name)
}
"#;

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != "target" {
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The simulation's program.
fn build(copy: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--release", "--locked", "--quiet", "--package", "waypost"])
        .args(["--test", "simulation", "--no-run", "--message-format", "json"])
        .current_dir(copy)
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(output.status.success(), "it does not build: a fault no longer fits its place");
    let told = String::from_utf8(output.stdout)?;
    let path =
        told.lines().filter(|line| line.contains("\"name\":\"simulation\"")).find_map(|line| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            rest.split_once('"').map(|(path, _)| PathBuf::from(path))
        });
    path.context("cargo does not say where the simulation is")
}

/// Whether all seeds are fine with this fault, or what the first one that is not says.
fn run(simulation: &Path, mutant: &str, seeds: u64) -> Result<(bool, String)> {
    let output = Command::new(simulation)
        .args(["--exact", "every_seed_keeps_the_promises", "--nocapture"])
        .env("WAYPOST_MUTANT", mutant)
        .env("WAYPOST_SIM_SEEDS", seeds.to_string())
        .env("WAYPOST_SIM_STOP", "1")
        .env("WAYPOST_SIM_TRACE", "1")
        .env_remove("WAYPOST_SIM_SEED")
        .output()
        .with_context(|| simulation.display().to_string())?;
    if output.status.success() {
        return Ok((true, String::new()));
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let Some((_, told)) = told.split_once("simulation: seed ") else {
        bail!("the simulation ended in another way: {told}");
    };
    let seed = told.lines().next().unwrap_or_default();
    let why = told.lines().skip(1).take_while(|line| !line.starts_with("simulation:"));
    let why = why.filter(|line| !line.is_empty()).last().unwrap_or_default();
    let why: String = why.chars().take(160).collect();
    Ok((false, format!("found by seed {seed}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_place() {
        let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/protocol");
        let mut files = std::collections::BTreeMap::new();
        for mutant in MUTANTS {
            let read =
                || fs::read_to_string(protocol.join(mutant.file)).expect("a file of the library");
            let source = files.entry(mutant.file).or_insert_with(read);
            *source = planted(source, mutant).expect("it stands there");
        }
        let mut names: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MUTANTS.len(), "two have the same name");
    }
}
