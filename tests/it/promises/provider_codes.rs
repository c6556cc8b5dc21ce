//! Codes that the provider makes and checks: the promises about codes hold as far as possible.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::domain::address::Address;
use otpost::domain::challenge::PROVIDER_MADE;
use otpost::domain::code::Code;
use otpost::domain::send_failure::SendFailure;
use otpost::domain::verdict::Verdict;
use otpost::provider::{CodeVerifier, CodeVerifierError, CredentialError, LookupError, ProviderVerdict};
use serde_json::json;

use crate::harness::{ALICE, Embedded, Options, World, with, within};
use crate::promises::secrets::{captured_log, start_capturing};
use crate::scripted::{Script, VERIFICATION};

const RIGHT: &str = "482913";
const WRONG: &str = "000000";
const LOST: Verdict = Verdict::Unanswered { counted: true };

/// The course of one check at the provider.
#[derive(Clone, Copy, PartialEq)]
enum CheckScript {
    Answered,
    /// The code is compared, and the answer is lost.
    Lost,
    /// The code is compared, and no answer comes.
    Silent,
    /// The check never reaches the provider.
    Unreachable,
    /// The provider has no such verification any more.
    Gone,
}

/// The answer to the question whether the provider's service exists.
#[derive(Clone, Copy, Debug, Default)]
enum ServiceAnswer {
    #[default]
    There,
    /// The credentials may not read the service.
    MayNotRead,
    Refused,
    Unanswered,
    Silent,
}

/// A provider that knows one code, which is right once.
#[derive(Default)]
struct ScriptedVerifier {
    scripts: Mutex<VecDeque<CheckScript>>,
    approved: Mutex<bool>,
    /// The verification of each check.
    checked: Mutex<Vec<Option<String>>>,
    /// `is_approved` never answers.
    mute: bool,
    service: ServiceAnswer,
}

impl ScriptedVerifier {
    fn will(&self, scripts: impl IntoIterator<Item = CheckScript>) {
        self.scripts.lock().unwrap().extend(scripts);
    }

    fn checked(&self) -> Vec<Option<String>> {
        self.checked.lock().unwrap().clone()
    }

    fn compare(&self, verification: Option<&str>, code: &Code) -> ProviderVerdict {
        self.checked.lock().unwrap().push(verification.map(str::to_owned));
        let mut approved = self.approved.lock().unwrap();
        if *approved {
            return ProviderVerdict::Gone;
        }
        *approved = code.expose() == RIGHT;
        if *approved { ProviderVerdict::Right } else { ProviderVerdict::Wrong }
    }
}

#[async_trait]
impl CodeVerifier for ScriptedVerifier {
    async fn check(
        &self,
        _: &Address,
        verification: Option<&str>,
        code: &Code,
    ) -> Result<ProviderVerdict, CodeVerifierError> {
        let script = self.scripts.lock().unwrap().pop_front().unwrap_or(CheckScript::Answered);
        if script == CheckScript::Unreachable {
            return Err(CodeVerifierError::NotCompared("connection refused".to_owned()));
        }
        if script == CheckScript::Gone {
            return Ok(ProviderVerdict::Gone);
        }
        let verdict = self.compare(verification, code);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match script {
            CheckScript::Lost => Err(CodeVerifierError::Lost("reset".to_owned())),
            CheckScript::Silent => std::future::pending().await,
            _ => Ok(verdict),
        }
    }

    async fn is_approved(&self, verification: &str) -> Result<bool, LookupError> {
        assert_eq!(verification, VERIFICATION);
        if self.mute {
            return std::future::pending().await;
        }
        Ok(*self.approved.lock().unwrap())
    }

    async fn is_there(&self) -> Result<(), CredentialError> {
        match self.service {
            ServiceAnswer::There => Ok(()),
            ServiceAnswer::MayNotRead => Err(CredentialError::MayNotRead { provider_code: 70051 }),
            ServiceAnswer::Refused => {
                Err(CredentialError::Refused { status: 404, provider_code: Some(20404) })
            }
            ServiceAnswer::Unanswered => Err(CredentialError::Unanswered("reset".to_owned())),
            ServiceAnswer::Silent => std::future::pending().await,
        }
    }
}

fn gateway(verifier: &Arc<ScriptedVerifier>) -> Embedded {
    let world = World::new();
    world.provider.makes_codes.store(true, Ordering::SeqCst);
    Embedded::in_world(world, Options { code_verifier: Some(verifier.clone()), ..Options::default() })
}

async fn sent(verifier: &Arc<ScriptedVerifier>) -> Embedded {
    let mut gateway = gateway(verifier);
    gateway.request("r1", ALICE).await.expect_sent();
    gateway
}

#[tokio::test(start_paused = true)]
async fn the_providers_code_is_right_once_and_checked_by_its_verification_id() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    assert_eq!(gateway.verify(ALICE, WRONG).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
    assert_eq!(verifier.checked(), [Some(VERIFICATION.to_owned()), Some(VERIFICATION.to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_provider_has_no_text_code_or_segments_of_ours() {
    let mut gateway = gateway(&Arc::default());
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert!(ended.body.get("segments").is_none() && ended.body.get("expires_at").is_some());
    let posted = gateway.posted();
    assert_eq!((posted.len(), posted[0].body.as_str(), posted[0].code.as_str()), (1, "", ""));
}

#[tokio::test(start_paused = true)]
async fn fields_that_choose_our_own_texts_are_rejected() {
    let mut gateway = gateway(&Arc::default());
    for (id, more) in [
        ("r1", json!({"code": "123456"})),
        ("r2", json!({"template": "default"})),
        ("r3", json!({"autofill": {"webotp_domain": "shop.example"}})),
    ] {
        gateway.publish(&with(id, ALICE, more.clone()));
        let ended = gateway.result().await;
        ended.expect("rejected", Some("invalid_request"));
        let (field, _) = more.as_object().and_then(|more| more.iter().next()).expect("a field");
        let message = ended.body["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_many_right_codes_at_once_exactly_one_is_verified() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    let all = futures_util::future::join_all((0..5).map(|_| gateway.verify(ALICE, RIGHT))).await;
    assert_eq!(all.iter().filter(|verdict| **verdict == Verdict::Verified).count(), 1, "{all:?}");
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn a_right_code_whose_event_was_not_confirmed_is_compared_here_the_next_time() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let mut gateway = sent(&verifier).await;
    for _ in 0..3 {
        gateway.world.broker.fail_next_publishes(1);
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Unpublished);
    }
    assert!(matches!(gateway.verify(ALICE, WRONG).await, Verdict::Wrong { attempts_left: 4 }));
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    assert_eq!(verifier.checked().len(), 1, "a provider accepts a code only once");
    let mut event = gateway.result().await;
    while event.body["status"] != "verified" {
        event = gateway.result().await;
    }
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_guesses_asks_the_provider_five_times() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    let all = futures_util::future::join_all((0..200).map(|_| gateway.verify(ALICE, WRONG))).await;
    let wrong = all.iter().filter(|verdict| matches!(verdict, Verdict::Wrong { .. })).count();
    assert_eq!((wrong, verifier.checked().len()), (5, 5));
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Locked { retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn a_right_code_whose_answer_was_lost_is_verified_by_a_later_read() {
    for script in [CheckScript::Lost, CheckScript::Silent] {
        let verifier = Arc::<ScriptedVerifier>::default();
        let gateway = sent(&verifier).await;
        verifier.will([script]);
        start_capturing();
        assert_eq!(within(gateway.verify(ALICE, RIGHT)).await, Verdict::Verified);
        let log = captured_log();
        assert!(log.contains("code checked") && !log.contains("code check failed"), "{log}");
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_without_a_later_read_gives_no_verdict_and_stays_counted() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    verifier.will([CheckScript::Lost]);
    assert_eq!(gateway.verify(ALICE, WRONG).await, LOST);
    assert_eq!(gateway.verify(ALICE, WRONG).await, Verdict::Wrong { attempts_left: 3 });

    let mute = Arc::new(ScriptedVerifier { mute: true, ..ScriptedVerifier::default() });
    let gateway = sent(&mute).await;
    mute.will([CheckScript::Silent]);
    let began = tokio::time::Instant::now();
    assert_eq!(within(gateway.verify(ALICE, RIGHT)).await, LOST);
    assert!(began.elapsed() < Duration::from_secs(8), "a person is waiting");
    assert!(matches!(gateway.verify(ALICE, RIGHT).await, Verdict::Expired { .. }), "the code is used up");
}

#[tokio::test(start_paused = true)]
async fn no_check_is_verified_by_the_code_of_another_check() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    // Both checks are in flight when the provider approves one of them.
    verifier.will([CheckScript::Answered, CheckScript::Lost]);
    let both = tokio::join!(gateway.verify(ALICE, RIGHT), gateway.verify(ALICE, WRONG));
    assert_eq!(both.0, Verdict::Verified);
    assert!(matches!(both.1, LOST | Verdict::AlreadyUsed), "{both:?}");

    // Both answers are lost, so neither check can claim the approval.
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    verifier.will([CheckScript::Lost, CheckScript::Lost]);
    let both = tokio::join!(gateway.verify(ALICE, RIGHT), gateway.verify(ALICE, WRONG));
    assert_eq!(both, (LOST, LOST));
}

#[tokio::test(start_paused = true)]
async fn a_right_code_is_recorded_although_its_caller_hung_up() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    let hung_up = tokio::time::timeout(Duration::from_millis(50), gateway.verify(ALICE, RIGHT)).await;
    assert!(hung_up.is_err());
    // Shutdown waits for the check.
    gateway.verifier.in_flight.close();
    within(gateway.verifier.in_flight.wait()).await;
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_never_reached_the_provider_is_not_counted() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let gateway = sent(&verifier).await;
    verifier.will([CheckScript::Unreachable; 20]);
    for _ in 0..20 {
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Unanswered { counted: false });
    }
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
}

#[tokio::test(start_paused = true)]
async fn a_verification_that_the_provider_no_longer_has_is_expired() {
    for service in [ServiceAnswer::There, ServiceAnswer::MayNotRead] {
        let verifier = Arc::new(ScriptedVerifier { service, ..ScriptedVerifier::default() });
        let gateway = sent(&verifier).await;
        verifier.will([CheckScript::Gone]);
        assert!(matches!(gateway.verify(ALICE, RIGHT).await, Verdict::Expired { .. }), "{service:?}");
        let wrong = gateway.verify(ALICE, WRONG).await;
        assert_eq!(wrong, Verdict::Wrong { attempts_left: 3 }, "the expired check was counted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_verification_is_not_expired_while_the_provider_cannot_be_asked() {
    for service in [ServiceAnswer::Refused, ServiceAnswer::Unanswered, ServiceAnswer::Silent] {
        let verifier = Arc::new(ScriptedVerifier { service, ..ScriptedVerifier::default() });
        let gateway = sent(&verifier).await;
        verifier.will([CheckScript::Gone; 20]);
        for _ in 0..20 {
            let began = tokio::time::Instant::now();
            let verdict = within(gateway.verify(ALICE, RIGHT)).await;
            assert_eq!(verdict, Verdict::Unanswered { counted: false }, "{service:?}");
            assert!(began.elapsed() < Duration::from_secs(8), "a person is waiting");
        }
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_send_is_found_and_its_code_is_checked_by_its_verification_id() {
    let verifier = Arc::<ScriptedVerifier>::default();
    let mut gateway = gateway(&verifier);
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.posted().len(), 1, "nothing was sent again");
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    assert_eq!(verifier.checked(), [Some(VERIFICATION.to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn without_a_code_verifier_a_check_of_such_a_code_counts_nothing() {
    let world = World::new();
    world.provider.makes_codes.store(true, Ordering::SeqCst);
    let mut gateway = Embedded::in_world(world, Options::default());
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::KeyUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_began_with_our_code_is_not_sent_by_a_provider_that_makes_codes() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    world.provider.close_gate();
    gateway.publish(&with("r1", ALICE, json!({})));
    world.provider.until_posted(1).await;
    gateway.crash().await;
    world.provider.makes_codes.store(true, Ordering::SeqCst);
    world.provider.open_gate(9);
    let mut other = Embedded::in_world(world, Options::default());
    other.result().await.expect("unknown", Some("in_doubt"));
    assert_eq!(other.posted().len(), 1, "no second message was sent");
}

#[test]
fn no_key_of_ours_has_the_key_id_of_provider_made_codes() {
    assert!(otpost::domain::code::Kid::parse(PROVIDER_MADE).is_none());
}

/// The two messages have no text of ours to distinguish them, and without a cooldown both are in flight.
#[tokio::test(start_paused = true)]
async fn two_requests_to_one_number_share_no_message_and_cost_no_third_one() {
    let lost = || Script::Fail(SendFailure::InDoubt { detail: "reset".to_owned() });
    for scripts in [
        [Script::AcceptAndLoseAnswer, Script::AcceptAndLoseAnswer],
        [Script::AcceptAndLoseAnswer, lost()],
        [lost(), Script::AcceptAndLoseAnswer],
        [lost(), lost()],
    ] {
        let verifier = Arc::<ScriptedVerifier>::default();
        let mut gateway = gateway(&verifier);
        gateway.world.provider.script_next(scripts.clone());
        gateway.publish(&with("r1", ALICE, json!({})));
        gateway.publish(&with("r2", ALICE, json!({"purpose": "login"})));
        let mut ends = Vec::new();
        for _ in 0..2 {
            let ended = gateway.result().await;
            ends.push((ended.body["status"].clone(), ended.body["provider_message_id"].clone()));
        }
        let sent: Vec<_> = ends.iter().filter(|(status, _)| status == "sent").collect();
        let made = gateway.world.provider.made().len();
        assert!(sent.len() <= made && made <= 2, "{scripts:?}: {ends:?}");
        assert!(made == 1 || sent.len() == 2, "{scripts:?}: {ends:?}");
        assert!(sent.len() < 2 || sent[0].1 != sent[1].1 || sent[0].1.is_null(), "{scripts:?}: {ends:?}");
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified, "{scripts:?}");
    }
}
