//! Random verbs on random containers, some of them killed at a random step, several at a time; after each batch everything
//! answers, in the end nothing is left. `RUNDLET_TEST_CHAOS=ROUNDS[:SEED]` has it run longer or again.

use crate::support::runtime::Running;
use crate::support::steps::{Reached, Standing};
use crate::support::{Bundle, Cx, Output, leak, tests};

tests! {
    both chaos_leaves_nothing = "runc 1.1.5 leaves what a killed create or delete did not come to";
}

const ROUNDS: usize = 60;
const SEED: u64 = 20_260_721;
const CONTAINERS: u64 = 3;

/// splitmix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn settings() -> (usize, u64) {
    let set = std::env::var("RUNDLET_TEST_CHAOS").unwrap_or_default();
    let (rounds, seed) = set.split_once(':').unwrap_or((&set, ""));
    (
        rounds.parse().unwrap_or(ROUNDS),
        seed.parse().unwrap_or(SEED),
    )
}

/// A verb that fails says why; a panic or a signal of its own is a mistake, whatever the state was.
fn orderly(output: &Output) {
    assert!(
        [0, 1, 125, 126, 127, 128, 137, 143, 255].contains(&output.code),
        "{output}"
    );
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!(
        output.code == 0 || output.code > 128 || !output.stderr.is_empty(),
        "{output}"
    );
}

fn args_of(verb: u64, bundle: &Bundle) -> Vec<&str> {
    let (path, id) = (bundle.path.to_str().unwrap(), bundle.id.as_str());
    match verb {
        0..=3 => vec!["create", "--bundle", path, id],
        4 => vec!["run", "--detach", "--bundle", path, id],
        5..=7 => vec!["start", id],
        8 | 9 => vec!["exec", id, "true"],
        10 => vec!["exec", "--detach", id, "sleep", "1000"],
        11 => vec!["kill", id, "KILL"],
        12 => vec!["kill", id, "TERM"],
        13 => vec!["delete", id],
        14..=16 => vec!["delete", "--force", id],
        17 => vec!["state", id],
        18 => vec!["ps", id],
        _ => vec!["list"],
    }
}

/// On cgroup v1 a delete freezes what it kills. One that is killed just then leaves a container that is paused, and an exec that
/// had looked before waits in it, as for any pause: until somebody resumes it.
fn thaw(cx: &Cx, bundles: &[Bundle]) {
    for bundle in bundles {
        orderly(&cx.call(&["resume", &bundle.id]));
    }
}

fn chaos_leaves_nothing(cx: &Cx) {
    let (rounds, seed) = settings();
    println!("RUNDLET_TEST_CHAOS={rounds}:{seed}");
    let mut random = Random(seed);
    let bundles: Vec<Bundle> = (0..CONTAINERS)
        .map(|number| cx.named_bundle(&format!("x{number}")))
        .collect();
    bundles.iter().for_each(Bundle::write);
    let mut running: Vec<Running> = Vec::new();
    let mut standing: Vec<Standing> = Vec::new();
    let (mut done, mut killed) = (0, 0);
    for round in 0..rounds {
        let which = usize::try_from(random.below(CONTAINERS)).unwrap();
        let args = args_of(random.below(20), &bundles[which]);
        match random.below(4) {
            // Left to itself, beside what comes next.
            0 | 1 => running.push(cx.spawn(cx.command(&args))),
            // Killed at once when it comes to the step.
            2 => match cx.run_to(&args, usize::try_from(random.below(60)).unwrap()) {
                Reached::Step(at) => {
                    at.kill();
                    killed += 1;
                }
                Reached::End(_, output) => orderly(&output),
            },
            // Stands there while others go on.
            _ => match cx.run_to(&args, usize::try_from(random.below(60)).unwrap()) {
                Reached::Step(at) => standing.push(at),
                Reached::End(_, output) => orderly(&output),
            },
        }
        done += 1;
        if running.len() + standing.len() > 4 || round + 1 == rounds {
            for at in standing.drain(..) {
                if random.below(2) == 0 {
                    at.kill();
                    killed += 1;
                } else {
                    running.push(at.release());
                }
            }
            thaw(cx, &bundles);
            for output in running.drain(..).map(Running::wait) {
                orderly(&output);
            }
            cx.call(&["list"]).ok();
        }
        // Now and then all of it must go.
        if round % 30 == 29 || round + 1 == rounds {
            for at in standing.drain(..) {
                at.kill();
            }
            thaw(cx, &bundles);
            for output in running.drain(..).map(Running::wait) {
                orderly(&output);
            }
            for bundle in &bundles {
                cx.call(&["delete", "--force", &bundle.id]).ok();
            }
            let left = leak::settle(cx);
            assert!(
                left.is_empty(),
                "seed {seed}, round {round}, left behind:\n{}",
                left.join("\n")
            );
        }
    }
    println!("{done} verbs, {killed} killed");
}
