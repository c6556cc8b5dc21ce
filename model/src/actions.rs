//! The actions that are possible in a world.

use crate::flaw::Flaw;
use crate::life::{Life, Provider};
use crate::store::{LeaseState, Open, Record, State, Token};
use crate::worker::{Phase, Worker};
use crate::world::{
    Action, Age, CallResult, Fate, LookupResult, OTHERS_MESSAGE, Other, PostResult, PublishResult, WORKERS,
    World,
};

impl Life {
    pub fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        for w in 0..WORKERS {
            self.normal_work(world, w, actions);
            if world.faults_left > 0 {
                self.worker_faults(world, w, actions);
            }
            self.requeues(world, w, actions);
        }
        self.environment(world, actions);
    }

    fn normal_work(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.step(w).is_some() && !world.waits_for_other_handler(w) {
            actions.push(Action::Call(w, CallResult::Answered));
        }
        match worker.phase {
            Phase::Idle if world.ready > 0 => actions.push(Action::Consume(w)),
            Phase::Ready => self.posts(world, w, actions),
            Phase::LookingUp { absent_lookups } => self.lookups(world, w, absent_lookups, actions),
            Phase::Publishing(_) => {
                actions.push(Action::Publish(w, PublishResult::Confirmed));
                if self.flaw == Some(Flaw::AcksBeforeConfirm) {
                    actions.push(Action::Acknowledge(w));
                }
            }
            Phase::Acknowledging => actions.push(Action::Acknowledge(w)),
            _ => {}
        }
    }

    fn posts(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        if !world.worker(w).post_fits_lease && self.flaw != Some(Flaw::PostsWithoutLease) {
            return;
        }
        if world.too_late && self.flaw != Some(Flaw::PostsAfterDeadline) {
            actions.push(Action::GiveUp(w));
            return;
        }
        if world.worker(w).grant.provider + 1 < self.providers {
            actions.push(Action::Switch(w));
        }
        for result in [
            PostResult::Accepted,
            PostResult::AcceptedUnnamed,
            PostResult::RefusedForGood,
            PostResult::AnswerLost,
        ] {
            actions.push(Action::Post(w, result));
        }
        if world.refusals_left > 0 {
            actions.push(Action::Post(w, PostResult::RefusedForNow));
        }
    }

    /// A lookup without an answer, or one that does not count, changes nothing and is left out.
    fn lookups(&self, world: &World, w: u8, absent_lookups: u8, actions: &mut Vec<Action>) {
        if let Record::Open(Open { receipt: Some(message), .. }) = world.store.record {
            actions.push(Action::LookUp(w, LookupResult::Receipt(message)));
            return;
        }
        if world.too_late {
            actions.push(Action::GiveUp(w));
        }
        let grant = world.worker(w).grant;
        let may_hand_over = !grant.resent || self.flaw == Some(Flaw::HandsOverAgain);
        if may_hand_over && grant.provider + 1 < self.providers && world.age != Age::Young && !world.too_late
        {
            actions.push(Action::LookUp(w, LookupResult::Unanswered));
        }
        // Each provider that the record names is asked.
        let listed = || world.accepted().filter(|(_, post)| grant.named.has(post.provider));
        let takes_unnamed = self.flaw == Some(Flaw::TakesUnnamedMessage);
        let others_listed = usize::from(world.other.has_unclaimed_message());
        let others_max = usize::from(world.other.may_have_unclaimed_message());
        // A list may lack any message, so it is enough that all listed messages outnumber those of the other request.
        if takes_unnamed || listed().count() + others_listed > others_max {
            for (message, _) in listed() {
                actions.push(Action::LookUp(w, LookupResult::Found(message)));
            }
        }
        if takes_unnamed && others_listed > 0 {
            actions.push(Action::LookUp(w, LookupResult::Found(OTHERS_MESSAGE)));
        }
        let must_be_listed = listed().any(|(message, _)| {
            let newest = usize::from(message) + 1 == world.posts.len();
            self.provider == Provider::Prompt && !(newest && world.age != Age::Old)
        });
        let counts = match absent_lookups {
            0 => world.age != Age::Young,
            _ => world.age == Age::Old,
        };
        if !counts || world.too_late || grant.resent {
            return;
        }
        if !must_be_listed {
            actions.push(Action::LookUp(w, LookupResult::Absent));
        }
        if !takes_unnamed && others_max > 0 && listed().count() + others_listed > 0 {
            actions.push(Action::LookUp(w, LookupResult::Unaccounted));
        }
    }

    fn worker_faults(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.phase == Phase::Idle {
            return;
        }
        actions.push(Action::Crash(w));
        if worker.holds_delivery {
            actions.push(Action::LoseConnection(w));
        }
        if worker.phase == Phase::Ready && worker.post_fits_lease {
            actions.push(Action::Freeze(w));
        }
        if let Phase::Publishing(_) = worker.phase {
            actions.push(Action::Publish(w, PublishResult::ConfirmLost));
        }
        if worker.step(w).is_some() {
            if !world.waits_for_other_handler(w) {
                actions.push(Action::Call(w, CallResult::AnswerLost));
            }
            if world.allows_late_step() {
                actions.push(Action::Call(w, CallResult::AppliedLater));
            }
        }
    }

    /// A shutdown is a fault. A handler whose delivery is lost ends wherever it would wait.
    fn requeues(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.holds_delivery && world.faults_left == 0 {
            return;
        }
        if worker.requeue_step().is_some() {
            actions.push(Action::Requeue(w, CallResult::AnswerLost));
            actions.push(Action::Requeue(w, CallResult::NeverApplied));
            if world.allows_late_step() && world.faults_left > 0 {
                actions.push(Action::Requeue(w, CallResult::AppliedLater));
            }
        } else if !worker.holds_delivery
            && matches!(worker.phase, Phase::WritingWaiting | Phase::Publishing(_))
        {
            actions.push(Action::Requeue(w, CallResult::NeverApplied));
        }
    }

    fn environment(&self, world: &World, actions: &mut Vec<Action>) {
        if world.late.is_some() {
            actions.push(Action::LateStepArrives);
        }
        // It changes nothing after the last possible send.
        let may_send = |worker: &Worker| {
            matches!(worker.phase, Phase::Ready | Phase::WritingSending(_) | Phase::LookingUp { .. })
        };
        let matters =
            !matches!(world.store.record, Record::Completed(_)) || world.workers.iter().any(may_send);
        if matters && !world.too_late {
            actions.push(Action::DeadlinePasses);
        }
        for (message, post) in (0..).zip(&world.posts) {
            if post.fate == Fate::Flying {
                actions.push(Action::PostArrives(message));
            }
        }
        let Record::Open(open) = world.store.record else {
            return;
        };
        others_steps(world.other).iter().for_each(|&next| actions.push(Action::OtherBecomes(next)));
        if open.receipt.is_none() {
            actions.extend(world.accepted().map(|(message, _)| Action::ReceiptArrives(message)));
        }
        if open.lease == LeaseState::Valid {
            self.lease_expires(world, open, actions);
        }
        if self.ages(world) {
            actions.push(Action::Ages);
        }
    }

    /// A handler renews its lease in time. Its lease expires only if the handler freezes, which is a fault.
    fn lease_expires(&self, world: &World, open: Open, actions: &mut Vec<Action>) {
        // A lease of `sending` outlasts every POST that started after a check of the lease.
        let ends_first = open.state == State::Waiting || self.flaw == Some(Flaw::PostsWithoutLease);
        match open.token {
            Token::Requeued | Token::Past(_) => actions.push(Action::LeaseExpires),
            Token::Worker(_) if world.faults_left == 0 => {}
            Token::Worker(w) if world.worker(w).post_fits_lease && !ends_first => {}
            Token::Worker(_) => actions.push(Action::LeaseOfLiveHandlerExpires),
        }
    }

    /// Age matters to lookups only, so it grows only while a handler looks up.
    fn ages(&self, world: &World) -> bool {
        let looking = |least| {
            let waits = |worker: &Worker| matches!(worker.phase, Phase::LookingUp { absent_lookups } if absent_lookups >= least);
            world.workers.iter().any(waits)
        };
        match world.age {
            Age::Young => looking(0) && world.workers.iter().all(|worker| !worker.post_fits_lease),
            Age::Ripe => looking(1),
            Age::Old => false,
        }
    }
}

/// The next states of the other request. A receipt names a message that was accepted.
fn others_steps(other: Other) -> &'static [Other] {
    match other {
        Other::NotStarted => &[Other::Sending { accepted: false }],
        Other::Sending { accepted: false } => {
            &[Other::Sending { accepted: true }, Other::InDoubt { accepted: false }, Other::Failed]
        }
        Other::Sending { accepted: true } => {
            &[Other::Named, Other::Unnamed, Other::InDoubt { accepted: true }]
        }
        Other::InDoubt { accepted: false } => &[Other::InDoubt { accepted: true }],
        Other::Unnamed | Other::InDoubt { accepted: true } => &[Other::Named],
        Other::None | Other::Failed | Other::Named => &[],
    }
}
