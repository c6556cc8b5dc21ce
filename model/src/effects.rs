//! The effect of each action on the world.

use crate::flaw::Flaw;
use crate::life::{Life, Provider};
use crate::store::{Answer, LeaseState, Outcome, Record, SendReason, Step, Token};
use crate::worker::{Next, Phase, Worker};
use crate::world::{
    Action, Age, CallResult, Fate, Late, LookupResult, Post, PostResult, PublishResult, World,
};

impl Life {
    pub fn apply(&self, world: &mut World, action: Action) {
        match action {
            Action::Consume(w) => {
                world.ready -= 1;
                *world.worker_mut(w) =
                    Worker { phase: Phase::Admitting, holds_delivery: true, ..Worker::IDLE };
            }
            Action::Call(w, result) => self.call(world, w, result),
            Action::Post(w, result) => self.post(world, w, result),
            Action::Switch(w) => {
                let worker = world.worker_mut(w);
                match self.flaw {
                    Some(Flaw::CallsUnnamedProvider) => worker.grant.provider = 1,
                    _ => worker.phase = Phase::WritingSending(SendReason::OtherProvider),
                }
            }
            Action::GiveUp(w) => {
                let worker = world.worker_mut(w);
                let outcome = match worker.phase {
                    Phase::LookingUp { .. } => Outcome::Unknown,
                    _ => worker.outcome_without_attempt(self.flaw == Some(Flaw::FailsAfterDoubt)),
                };
                (worker.phase, worker.post_fits_lease) = (Phase::Completing(outcome), false);
            }
            Action::LookUp(w, result) => self.look_up(world, w, result),
            Action::Publish(w, result) => self.publish(world, w, result),
            Action::Acknowledge(w) => {
                // The acknowledgement of a lost delivery has no effect.
                world.acked += u8::from(world.worker(w).holds_delivery);
                world.worker_mut(w).holds_delivery = false;
                world.end_handler(w);
            }
            Action::Requeue(w, result) => self.requeue(world, w, result),
            Action::Crash(w) => {
                world.faults_left -= 1;
                world.end_handler(w);
            }
            Action::LoseConnection(w) => {
                world.faults_left -= 1;
                world.ready += 1;
                world.worker_mut(w).holds_delivery = false;
            }
            Action::Freeze(w) => {
                world.faults_left -= 1;
                world.worker_mut(w).post_fits_lease = false;
            }
            Action::LateStepArrives => {
                let late = world.late.take().expect("possible only with a late call");
                self.run(world, late.step, late.token);
            }
            Action::LeaseExpires | Action::LeaseOfLiveHandlerExpires => {
                world.faults_left -= u8::from(action == Action::LeaseOfLiveHandlerExpires);
                if let Record::Open(open) = &mut world.store.record {
                    open.lease = LeaseState::Expired;
                }
            }
            Action::Ages => self.age(world),
            Action::DeadlinePasses => world.too_late = true,
            Action::PostArrives(message) => world.posts[usize::from(message)].fate = Fate::Accepted,
            Action::OtherBecomes(other) => world.other = other,
            Action::ReceiptArrives(message) => {
                if let Record::Open(open) = &mut world.store.record {
                    open.receipt = Some(message);
                }
            }
        }
    }

    fn call(&self, world: &mut World, w: u8, result: CallResult) {
        let step = world.worker(w).step(w).expect("possible only with a step");
        let token = Token::Worker(w);
        match result {
            CallResult::AppliedLater => {
                world.faults_left -= 1;
                world.late = Some(Late { token, step });
            }
            CallResult::AnswerLost => {
                world.faults_left -= 1;
                let first = self.run(world, step, token);
                let store = world.store;
                let (mut store_again, too_late) = (store, world.too_late);
                let second = store_again.run(step, token, too_late, self.flaw);
                world.history.unequal_answer |= first != second || store != store_again;
            }
            CallResult::NeverApplied => {}
            CallResult::Answered => {
                let answer = self.run(world, step, token);
                match world.worker_mut(w).receive(answer) {
                    Next::GoOn => {}
                    Next::TakenOver => world.end_handler(w),
                }
            }
        }
    }

    fn run(&self, world: &mut World, step: Step, token: Token) -> Answer {
        let answer = world.store.run(step, token, world.too_late, self.flaw);
        match (step, answer) {
            (Step::WriteSending { reason, .. }, Answer::Applied) => {
                world.age = Age::Young;
                world.history.resent |= reason == SendReason::Resend { absent_lookups: 2 };
                world.history.handed_over |= reason == SendReason::DoubtUnanswered;
            }
            (Step::Admit { .. }, Answer::Granted(_)) => world.age = Age::Young,
            _ => {}
        }
        if let Record::Completed(_) = world.store.record {
            world.late = None;
        }
        answer
    }

    fn age(&self, world: &mut World) {
        if world.age == Age::Young {
            world.age = Age::Ripe;
            return;
        }
        world.age = Age::Old;
        if self.provider == Provider::Prompt {
            for post in world.posts.iter_mut().filter(|post| post.fate == Fate::Flying) {
                post.fate = Fate::Vanished;
            }
        }
    }

    fn post(&self, world: &mut World, w: u8, result: PostResult) {
        world.history.posted_too_late |= world.too_late;
        let message = u8::try_from(world.posts.len()).expect("few messages are posted");
        let worker = world.worker_mut(w);
        let (code, provider) = (worker.grant.code, worker.grant.provider);
        worker.post_fits_lease = false;
        worker.phase = match result {
            PostResult::Accepted => Phase::Completing(Outcome::Sent(message)),
            PostResult::AcceptedUnnamed => Phase::Completing(Outcome::SentUnnamed),
            PostResult::RefusedForNow => Phase::WritingWaiting,
            PostResult::RefusedForGood => {
                Phase::Completing(worker.outcome_without_attempt(self.flaw == Some(Flaw::FailsAfterDoubt)))
            }
            PostResult::AnswerLost if self.flaw == Some(Flaw::RetriesElsewhereInDoubt) => {
                Phase::WritingWaiting
            }
            PostResult::AnswerLost => Phase::WritingInDoubt,
        };
        match result {
            PostResult::Accepted | PostResult::AcceptedUnnamed => {
                world.posts.push(Post { provider, fate: Fate::Accepted, code });
            }
            PostResult::AnswerLost => world.posts.push(Post { provider, fate: Fate::Flying, code }),
            PostResult::RefusedForNow => world.refusals_left -= 1,
            PostResult::RefusedForGood => {}
        }
    }

    fn look_up(&self, world: &mut World, w: u8, result: LookupResult) {
        let enough = if self.flaw == Some(Flaw::ResendsAfterOneAbsent) { 1 } else { 2 };
        let worker = world.worker_mut(w);
        worker.phase = match (result, worker.phase) {
            (LookupResult::Receipt(message) | LookupResult::Found(message), _) => {
                Phase::Completing(Outcome::Sent(message))
            }
            (LookupResult::Absent | LookupResult::Unaccounted, Phase::LookingUp { absent_lookups })
                if absent_lookups + 1 < enough =>
            {
                Phase::LookingUp { absent_lookups: absent_lookups + 1 }
            }
            (LookupResult::Unanswered, _) => Phase::WritingSending(SendReason::DoubtUnanswered),
            (LookupResult::Unaccounted, _) => Phase::Completing(Outcome::Unknown),
            (LookupResult::Absent, _) if self.flaw == Some(Flaw::ResendsWithoutUpdate) => {
                (worker.post_fits_lease, worker.grant.resent) = (true, true);
                Phase::Ready
            }
            (LookupResult::Absent, _) => Phase::WritingSending(SendReason::Resend { absent_lookups: enough }),
        };
        if self.flaw == Some(Flaw::ResendsWithoutUpdate) && world.worker(w).phase == Phase::Ready {
            world.history.resent = true;
        }
    }

    fn publish(&self, world: &mut World, w: u8, result: PublishResult) {
        let Phase::Publishing(outcome) = world.worker(w).phase else {
            unreachable!("possible only while publishing");
        };
        if !world.published.contains(&outcome) {
            world.published.push(outcome);
        }
        match result {
            PublishResult::ConfirmLost => world.faults_left -= 1,
            PublishResult::Confirmed => {
                // More than one confirm a copy adds nothing.
                world.confirms = (world.confirms + 1).min(self.copies);
                world.worker_mut(w).phase = Phase::Acknowledging;
            }
        }
    }

    fn requeue(&self, world: &mut World, w: u8, result: CallResult) {
        let worker = world.worker(w);
        let (token, step) = (Token::Worker(w), worker.requeue_step());
        if worker.holds_delivery || result == CallResult::AppliedLater {
            world.faults_left -= 1;
        }
        match (result, step) {
            (CallResult::AnswerLost | CallResult::Answered, Some(step)) => {
                self.run(world, step, token);
            }
            (CallResult::AppliedLater, Some(step)) => world.late = Some(Late { token, step }),
            (CallResult::NeverApplied, _) | (_, None) => {}
        }
        world.end_handler(w);
    }
}
