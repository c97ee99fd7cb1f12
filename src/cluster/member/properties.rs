//! What members never do, and what they come to in the end, whatever happens to them in whatever order.

use proptest::prelude::*;

use super::model::World;
use super::*;

/// Anything that can happen to a cluster, likely or not.
#[derive(Clone, Debug)]
enum Chance {
    Pass(u64),
    Join,
    JoinStatic(u32, u32),
    Leave(usize),
    Crash(usize),
    Close(usize),
    Cut(usize, u64),
    Pause(usize, u64),
    RestartBroker(u64),
}

fn chance() -> impl Strategy<Value = Chance> {
    let who = 0..8_usize;
    prop_oneof![
        8 => (1..200_u64).prop_map(Chance::Pass),
        8 => (200..6000_u64).prop_map(Chance::Pass),
        3 => (6000..40_000_u64).prop_map(Chance::Pass),
        6 => Just(Chance::Join),
        1 => (0..24_u32, 1..6_u32).prop_map(|(first, count)| Chance::JoinStatic(first, count)),
        3 => who.clone().prop_map(Chance::Leave),
        2 => who.clone().prop_map(Chance::Crash),
        3 => who.clone().prop_map(Chance::Close),
        2 => (who.clone(), 1..29_000_u64).prop_map(|(who, after)| Chance::Cut(who, after)),
        3 => (who, prop_oneof![100..3000_u64, 3000..60_000_u64]).prop_map(|(who, millis)| Chance::Pause(who, millis)),
        1 => (0..20_000_u64).prop_map(Chance::RestartBroker),
    ]
}

fn happens(world: &mut World, chance: &Chance) {
    let alive = world.alive();
    let pick = |who: usize| (!alive.is_empty()).then(|| alive[who % alive.len()]);
    match *chance {
        Chance::Pass(millis) => world.pass(millis),
        Chance::Join if alive.len() < 8 => {
            world.join(Want::Fair);
        }
        Chance::JoinStatic(first, count) if alive.len() < 8 => {
            let shards = (first..first + count).filter(|shard| *shard < world.shard_count).map(ShardId::new).collect();
            world.join(Want::These(shards));
        }
        Chance::Join | Chance::JoinStatic(..) => {}
        Chance::Leave(who) => pick(who).into_iter().for_each(|number| world.leave(number)),
        Chance::Crash(who) => pick(who).into_iter().for_each(|number| world.crash(number)),
        Chance::Close(who) => pick(who).into_iter().for_each(|number| world.close(number)),
        Chance::Cut(who, after) => pick(who).into_iter().for_each(|number| world.cut(number, after)),
        Chance::Pause(who, millis) => pick(who).into_iter().for_each(|number| world.pause(number, millis)),
        Chance::RestartBroker(down) => world.restart_broker(down),
    }
}

/// What moved so far.
fn steps(world: &World) -> usize {
    world.total(|process| process.starts + process.stops)
}

/// A cluster of so many that share, come to rest.
fn settled(members: usize, shard_count: u32, seed: u64) -> World {
    let mut world = World::new(shard_count, seed);
    for _ in 0..members {
        world.join(Want::Fair);
        world.pass(seed % 700);
    }
    world.pass(60_000);
    assert!(world.is_fair(), "{:?}", world.counts());
    world
}

proptest! {
    /// That no shard is published twice is asserted by the world, after each event.
    #[test]
    fn whatever_happens_every_shard_runs_once_in_the_end(
        shard_count in 1..24_u32,
        seed: u64,
        chances in prop::collection::vec(chance(), 1..40),
    ) {
        let mut world = World::new(shard_count, seed);
        world.slow = true;
        world.join(Want::Fair);
        for chance in &chances {
            happens(&mut world, chance);
        }
        if !world.alive().iter().any(|number| world.shares(*number)) {
            world.join(Want::Fair);
        }
        // The longest pause, then the longest that a dead connection holds leases, then time to share.
        world.pass(240_000);
        let alive = world.alive();
        let mut run: Vec<ShardId> = alive.iter().flat_map(|number| world.runs(*number)).collect();
        run.sort_unstable();
        prop_assert_eq!(run, (0..shard_count).map(ShardId::new).collect::<Vec<_>>());
        let shared: Vec<usize> =
            alive.iter().filter(|number| world.shares(**number)).map(|number| world.runs(*number).len()).collect();
        let spread = shared.iter().max().unwrap() - shared.iter().min().unwrap();
        prop_assert!(spread <= 1, "{:?}", shared);

        let (moved, announced) = (steps(&world), world.total(|process| process.announced));
        world.pass(60_000);
        prop_assert_eq!(steps(&world), moved, "shards move though nothing changes");
        let announced = world.total(|process| process.announced) - announced;
        prop_assert!(announced <= alive.len() * 13, "{} announcements of {} a minute", announced, alive.len());
    }

    #[test]
    fn one_that_joins_takes_its_share_and_nothing_else_moves(members in 1..6_usize, shard_count in 1..64_u32, seed: u64) {
        let mut world = settled(members, shard_count, seed);
        let before = steps(&world);
        let joined = world.join(Want::Fair);
        world.pass(40_000);
        prop_assert!(world.is_fair(), "{:?}", world.counts());
        let share = world.runs(joined).len();
        prop_assert!(share <= (shard_count as usize).div_ceil(members + 1));
        prop_assert_eq!(world.processes[joined].starts, share);
        prop_assert_eq!(steps(&world) - before, 2 * share, "each is stopped once and started once");
    }

    #[test]
    fn what_one_that_leaves_had_moves_and_nothing_else(
        members in 2..6_usize,
        shard_count in 1..64_u32,
        crashes: bool,
        seed: u64,
    ) {
        let mut world = settled(members, shard_count, seed);
        let before = world.total(|process| process.starts);
        let had = world.runs(0).len();
        if crashes { world.crash(0) } else { world.leave(0) }
        world.pass(10_000);
        prop_assert!(world.is_fair(), "{:?}", world.counts());
        prop_assert_eq!(world.total(|process| process.starts) - before, had);
    }

    /// Who comes back for what it had is not robbed of it.
    #[test]
    fn a_restart_of_the_broker_moves_nothing(members in 1..6_usize, shard_count in 1..64_u32, down in 0..20_000_u64, seed: u64) {
        let mut world = settled(members, shard_count, seed);
        let before = steps(&world);
        world.restart_broker(down);
        world.pass(10_000);
        prop_assert!(world.is_fair(), "{:?}", world.counts());
        prop_assert_eq!(steps(&world), before);
    }
}
