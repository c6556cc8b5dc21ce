//! Where the provider makes the codes: it is asked, and what is promised of codes holds as far as it can.

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
use crate::scripted::{Script, VERIFICATION};

const RIGHT: &str = "482913";
const WRONG: &str = "000000";
const LOST: Verdict = Verdict::Unanswered { counted: true };

/// What becomes of one check.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It is answered.
    Answered,
    /// It is compared, and the answer lost.
    Lost,
    /// It is compared, and never answered.
    Silent,
    /// It never gets there.
    Unreachable,
    /// Whatever is there is over.
    Gone,
}

/// What is said of whoever checks.
#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    #[default]
    There,
    Closed,
    Refused,
    Unanswered,
    Silent,
}

/// Knows one code, and lets it be right once.
#[derive(Default)]
struct ScriptedChecker {
    fates: Mutex<VecDeque<Fate>>,
    state: Mutex<(bool, Vec<Option<String>>)>,
    /// It is not read what became of a verification.
    mute: bool,
    standing: Standing,
}

impl ScriptedChecker {
    fn will(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }

    /// Which verifications codes were checked for.
    fn asked(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().1.clone()
    }

    fn compare(&self, verification: Option<&str>, code: &Code) -> ProviderVerdict {
        let mut state = self.state.lock().unwrap();
        state.1.push(verification.map(str::to_owned));
        if state.0 {
            return ProviderVerdict::Gone;
        }
        state.0 = code.expose() == RIGHT;
        if state.0 { ProviderVerdict::Right } else { ProviderVerdict::Wrong }
    }
}

#[async_trait]
impl CodeVerifier for ScriptedChecker {
    async fn check(
        &self,
        _: &Address,
        verification: Option<&str>,
        code: &Code,
    ) -> Result<ProviderVerdict, CodeVerifierError> {
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Answered);
        if fate == Fate::Unreachable {
            return Err(CodeVerifierError::NotCompared("connection refused".to_owned()));
        }
        if fate == Fate::Gone {
            return Ok(ProviderVerdict::Gone);
        }
        let judgement = self.compare(verification, code);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match fate {
            Fate::Lost => Err(CodeVerifierError::Lost("reset".to_owned())),
            Fate::Silent => std::future::pending().await,
            _ => Ok(judgement),
        }
    }

    async fn is_approved(&self, verification: &str) -> Result<bool, LookupError> {
        assert_eq!(verification, VERIFICATION);
        if self.mute {
            return std::future::pending().await;
        }
        Ok(self.state.lock().unwrap().0)
    }

    async fn is_there(&self) -> Result<(), CredentialError> {
        match self.standing {
            Standing::There => Ok(()),
            Standing::Closed => Err(CredentialError::MayNotRead { code: 70051 }),
            Standing::Refused => Err(CredentialError::Refused { status: 404, code: Some(20404) }),
            Standing::Unanswered => Err(CredentialError::Unanswered("reset".to_owned())),
            Standing::Silent => std::future::pending().await,
        }
    }
}

fn gateway(checker: &Arc<ScriptedChecker>) -> Embedded {
    let world = World::new();
    world.provider.makes_codes.store(true, Ordering::SeqCst);
    Embedded::in_world(world, Options { checker: Some(checker.clone()), ..Options::default() })
}

async fn sent(checker: &Arc<ScriptedChecker>) -> Embedded {
    let mut gateway = gateway(checker);
    gateway.request("r1", ALICE).await.expect_sent();
    gateway
}

#[tokio::test(start_paused = true)]
async fn the_providers_code_is_right_once_and_asked_about_by_its_name() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    assert_eq!(gateway.verify(ALICE, WRONG).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
    assert_eq!(checker.asked(), [Some(VERIFICATION.to_owned()), Some(VERIFICATION.to_owned())]);
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
async fn what_only_our_own_texts_can_hold_is_refused() {
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
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    let all = futures_util::future::join_all((0..5).map(|_| gateway.verify(ALICE, RIGHT))).await;
    assert_eq!(all.iter().filter(|verdict| **verdict == Verdict::Verified).count(), 1, "{all:?}");
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_guesses_asks_the_provider_five_times() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    let all = futures_util::future::join_all((0..200).map(|_| gateway.verify(ALICE, WRONG))).await;
    let wrong = all.iter().filter(|verdict| matches!(verdict, Verdict::Wrong { .. })).count();
    assert_eq!((wrong, checker.asked().len()), (5, 5));
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Locked { retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn a_right_code_whose_answer_was_lost_is_verified_by_what_is_read() {
    for fate in [Fate::Lost, Fate::Silent] {
        let checker = Arc::<ScriptedChecker>::default();
        let gateway = sent(&checker).await;
        checker.will([fate]);
        assert_eq!(within(gateway.verify(ALICE, RIGHT)).await, Verdict::Verified);
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_which_nothing_is_read_tells_nothing_and_stays_counted() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    checker.will([Fate::Lost]);
    assert_eq!(gateway.verify(ALICE, WRONG).await, LOST);
    assert_eq!(gateway.verify(ALICE, WRONG).await, Verdict::Wrong { attempts_left: 3 });

    let mute = Arc::new(ScriptedChecker { mute: true, ..ScriptedChecker::default() });
    let gateway = sent(&mute).await;
    mute.will([Fate::Silent]);
    let began = tokio::time::Instant::now();
    assert_eq!(within(gateway.verify(ALICE, RIGHT)).await, LOST);
    assert!(began.elapsed() < Duration::from_secs(8), "a person is waiting");
    assert!(matches!(gateway.verify(ALICE, RIGHT).await, Verdict::Expired { .. }), "it was used up");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_verified_by_the_code_that_somebody_else_typed() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    // Both are under way when the provider has approved one of them.
    checker.will([Fate::Answered, Fate::Lost]);
    let both = tokio::join!(gateway.verify(ALICE, RIGHT), gateway.verify(ALICE, WRONG));
    assert_eq!(both.0, Verdict::Verified);
    assert!(matches!(both.1, LOST | Verdict::AlreadyUsed), "{both:?}");

    // Whose answers were both lost: neither can be told from the other.
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    checker.will([Fate::Lost, Fate::Lost]);
    let both = tokio::join!(gateway.verify(ALICE, RIGHT), gateway.verify(ALICE, WRONG));
    assert_eq!(both, (LOST, LOST));
}

#[tokio::test(start_paused = true)]
async fn a_right_code_is_written_down_though_its_person_hung_up() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    let hung_up = tokio::time::timeout(Duration::from_millis(50), gateway.verify(ALICE, RIGHT)).await;
    assert!(hung_up.is_err());
    // A stop waits for it.
    gateway.verifier.in_flight.close();
    within(gateway.verifier.in_flight.wait()).await;
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn what_never_got_to_the_provider_is_not_counted() {
    let checker = Arc::<ScriptedChecker>::default();
    let gateway = sent(&checker).await;
    checker.will([Fate::Unreachable; 20]);
    for _ in 0..20 {
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Unanswered { counted: false });
    }
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_at_the_provider_has_expired() {
    for standing in [Standing::There, Standing::Closed] {
        let checker = Arc::new(ScriptedChecker { standing, ..ScriptedChecker::default() });
        let gateway = sent(&checker).await;
        checker.will([Fate::Gone]);
        assert!(matches!(gateway.verify(ALICE, RIGHT).await, Verdict::Expired { .. }), "{standing:?}");
        let wrong = gateway.verify(ALICE, WRONG).await;
        assert_eq!(wrong, Verdict::Wrong { attempts_left: 3 }, "it was counted");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_over_where_nobody_is_there_who_would_know() {
    for standing in [Standing::Refused, Standing::Unanswered, Standing::Silent] {
        let checker = Arc::new(ScriptedChecker { standing, ..ScriptedChecker::default() });
        let gateway = sent(&checker).await;
        checker.will([Fate::Gone; 20]);
        for _ in 0..20 {
            let began = tokio::time::Instant::now();
            let verdict = within(gateway.verify(ALICE, RIGHT)).await;
            assert_eq!(verdict, Verdict::Unanswered { counted: false }, "{standing:?}");
            assert!(began.elapsed() < Duration::from_secs(8), "a person is waiting");
        }
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_send_is_found_and_its_code_is_asked_about_by_its_name() {
    let checker = Arc::<ScriptedChecker>::default();
    let mut gateway = gateway(&checker);
    gateway.world.provider.will([Script::AcceptUnheard]);
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.posted().len(), 1, "nothing was sent again");
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified);
    assert_eq!(checker.asked(), [Some(VERIFICATION.to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn without_a_checker_such_a_code_counts_nothing() {
    let world = World::new();
    world.provider.makes_codes.store(true, Ordering::SeqCst);
    let mut gateway = Embedded::in_world(world, Options::default());
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::KeyUnavailable);
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_with_our_code_is_not_sent_by_a_provider_that_makes_its_own() {
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
    assert_eq!(other.posted().len(), 1, "nothing more was sent");
}

#[test]
fn no_key_of_ours_has_the_name_of_the_providers() {
    assert!(otpost::domain::code::Kid::parse(PROVIDER_MADE).is_none());
}

/// There is no text to tell them apart by, and without a cooldown both are under way.
#[tokio::test(start_paused = true)]
async fn two_requests_to_one_number_share_no_message_and_cost_no_third_one() {
    let lost = || Script::Fail(SendFailure::InDoubt { detail: "reset".to_owned() });
    for scripts in [
        [Script::AcceptUnheard, Script::AcceptUnheard],
        [Script::AcceptUnheard, lost()],
        [lost(), Script::AcceptUnheard],
        [lost(), lost()],
    ] {
        let checker = Arc::<ScriptedChecker>::default();
        let mut gateway = gateway(&checker);
        gateway.world.provider.will(scripts.clone());
        gateway.publish(&with("r1", ALICE, json!({})));
        gateway.publish(&with("r2", ALICE, json!({"purpose": "login"})));
        let mut found = Vec::new();
        for _ in 0..2 {
            let ended = gateway.result().await;
            ended.expect_sent();
            found.push(ended.body["provider_message_id"].clone());
        }
        assert_ne!(found[0], found[1], "{scripts:?}");
        assert_eq!(gateway.world.provider.made().len(), 2, "{scripts:?}");
        assert_eq!(gateway.verify(ALICE, RIGHT).await, Verdict::Verified, "{scripts:?}");
    }
}
