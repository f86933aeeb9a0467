//! The shared ledger's script against the ledger in memory: the same operations at the same times, and every answer
//! has to be the same.

pub(crate) mod chance;
mod play;

use crate::support::script::ClockedScript;
use perch::limit::{Admission, Reason};
use perch::store::redis::Reply;
use perch::store::redis::codec;
use play::{Answer, Play, RUN, Step};
use redis::Pipeline;
use std::collections::BTreeMap;

/// How many operations of one play are sent at once.
const BATCH: usize = 500;

/// The script next to the ledger.
struct Twin {
    script: ClockedScript,
    /// How often each kind of answer was given.
    seen: BTreeMap<String, usize>,
}

impl Twin {
    async fn start() -> Self {
        Self { script: ClockedScript::start().await, seen: BTreeMap::new() }
    }

    /// Sends these steps of one play and compares.
    async fn follow(&mut self, play: &Play, steps: &[Step]) {
        let head = codec::head(RUN, 0, &codec::rules(&play.rules));
        let mut pipeline = Pipeline::with_capacity(steps.len());
        for step in steps {
            let args = codec::args(&head, &step.call);
            pipeline.add_command(self.script.command(play.seed, step.now, &args));
        }
        let answers = self.script.connection.send_packed_commands(&pipeline, 0, steps.len()).await;
        for (at, (step, answer)) in steps.iter().zip(answers.expect("the server answers")).enumerate() {
            let heard = Reply::try_from(answer).and_then(|reply| step.read(&reply, &play.rules));
            let expected = Ok((step.clock, step.expected.clone()));
            assert!(
                heard == expected,
                "play {}, {:?}\n{}\nthe script: {heard:?}\nthe ledger: {expected:?}",
                play.seed,
                play.rules,
                steps[at.saturating_sub(15)..=at].iter().map(|s| format!("{s}\n")).collect::<String>()
            );
            *self.seen.entry(kind(&step.expected)).or_default() += 1;
        }
    }
}

fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Asked(Admission::Granted { .. }, ..) => "granted".to_owned(),
        Answer::Asked(Admission::Wait { .. }, ..) => "waits".to_owned(),
        Answer::Asked(Admission::Refused { reason, scope, .. }, ..) => {
            format!("{reason:?} of {}", scope.as_str())
        }
        Answer::Arrived(_) => "arrived".to_owned(),
        Answer::Flag(flag) => flag.to_string(),
        Answer::Done => "done".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_the_script_answers_as_the_ledger_in_memory_does() {
    // Several at once: while one plays, the servers of others answer.
    let parts = [0..50, 50..100, 100..150, 150..200].map(|seeds| {
        tokio::spawn(async move {
            let mut twin = Twin::start().await;
            for seed in seeds {
                let mut play = Play::new(seed);
                let steps: Vec<Step> = (0..BATCH).map(|_| play.step()).collect();
                twin.follow(&play, &steps).await;
            }
            twin.seen
        })
    });
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for part in parts {
        for (kind, count) in part.await.expect("both answer the same") {
            *seen.entry(kind).or_default() += count;
        }
    }
    // A play in which nothing happens compares nothing.
    for (reason, scope) in [
        (Reason::Quota, "product"),
        (Reason::Quota, "ip"),
        (Reason::Hold, "product"),
        (Reason::Hold, "ip"),
        (Reason::QueueFull, "product"),
        (Reason::CustomerQueueFull, "product"),
    ] {
        let kind = format!("{reason:?} of {scope}");
        assert!(seen.get(&kind).is_some_and(|n| *n > 20), "{kind}: {:?}", seen);
    }
    for kind in ["granted", "waits", "arrived", "true", "false", "done"] {
        assert!(seen.get(kind).is_some_and(|n| *n > 1000), "{kind}: {:?}", seen);
    }
}
