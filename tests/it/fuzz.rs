//! The fuzz targets, given their seeds and what is left of each when it is cut anywhere: they hold, and compile.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::path::{Path, PathBuf};

/// Longer seeds are cut in fewer places.
const CUTS_MAX: usize = 50;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_target_holds_for_its_seeds() {
    for (name, target) in targets::ALL {
        let seeds = folder().join("seeds").join(name);
        let mut count = 0;
        for entry in std::fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            target(&seed);
            for cut in (0..seed.len()).step_by(seed.len() / CUTS_MAX + 1) {
                target(&seed[..cut]);
                target(&seed[cut..]);
                let mut changed = seed.clone();
                changed[cut] ^= 0x80 >> (cut % 8);
                target(&changed);
            }
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

#[test]
fn every_target_has_its_program() {
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{name} is not in fuzz/Cargo.toml");
        let program = std::fs::read_to_string(folder().join(path)).unwrap();
        assert!(program.contains(&format!("bandy_fuzz::{name}(data)")), "{program}");
    }
}
