//! An attack of tests/it as a process of its own, so that what it burns is not taken for the server's.
//!
//!     attack                       tells the names of all
//!     attack ADDRESS:PORT NAME     attacks until its input ends, and tells how many connections that were

use std::{
    env,
    io::{self, Read},
};

use attacks::Attack;
use random::Random;

#[path = "../../../tests/it/support/attacks.rs"]
mod attacks;
#[path = "../../../tests/it/support/random.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod random;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, name] = &words[..] else {
        return Attack::ALL.iter().for_each(|(attack, _)| println!("{attack:?}"));
    };
    let is_meant = |(attack, _): &(Attack, u64)| format!("{attack:?}") == *name;
    let (attack, attackers) = Attack::ALL.into_iter().find(is_meant).expect("the name of an attack");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let attacking = attack.start(attackers, address, &mut Random::of_this_run());
        let ended = tokio::task::spawn_blocking(|| io::stdin().read(&mut [0]));
        ended.await.expect("it does not panic").expect("an input");
        println!("{}", attacking.strikes());
    });
}
