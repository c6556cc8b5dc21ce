//! Load under one family of faults, or under all: each phase is a stage of its own.

use std::path::Path;
use std::time::Duration;

use super::plan::{EVERY_FAMILY, Family, plan};
use super::servers::Servers;
use super::stage::{Setup, Stage, Traffic, Verdict};
use super::twilio::Mood;

/// One phase.
pub struct Phase {
    pub name: &'static str,
    families: &'static [Family],
    /// Stretches the time between faults.
    slack: f64,
}

/// The phase with two providers.
const TWO_PROVIDERS: &str = "two_providers";

/// In the order of the long run.
pub const PHASES: [Phase; 9] = [
    Phase { name: "worker_kills", families: &[Family::WorkerKills], slack: 1.0 },
    Phase { name: "rabbitmq_restarts", families: &[Family::RabbitRestarts], slack: 1.0 },
    Phase { name: "redis_restarts", families: &[Family::RedisRestarts], slack: 1.0 },
    Phase { name: "server_freezes", families: &[Family::Freezes], slack: 1.0 },
    Phase { name: "network_faults", families: &[Family::Network], slack: 1.0 },
    Phase { name: "twilio_storm", families: &[Family::Provider], slack: 1.0 },
    Phase { name: "rolling_restarts", families: &[Family::Rollouts], slack: 1.0 },
    Phase { name: "all_together", families: &EVERY_FAMILY, slack: 1.7 },
    Phase { name: TWO_PROVIDERS, families: &EVERY_FAMILY, slack: 1.7 },
];

impl Phase {
    /// Three workers under load while everything in the plan happens.
    pub async fn run(
        &self,
        servers: &Servers,
        folder: &Path,
        seed: u64,
        traffic: Traffic,
    ) -> Result<Verdict, String> {
        let steps = plan(self.families, seed, traffic.length.mul_f64(0.9), self.slack);
        println!("{}: {} faults", self.name, steps.len());
        steps.iter().for_each(|step| println!("  {step}"));
        let setup = Setup { workers: 3, code_life_minutes: 4, ..Setup::new(self.name, seed) };
        let setup = Setup { two_providers: self.name == TWO_PROVIDERS, ..setup };
        let stage = Stage::set(setup, servers, folder).await?;
        let uneasy = self.families.contains(&Family::Provider);
        stage.set_mood(if uneasy { Mood::UNEASY } else { Mood::ORDINARY });
        let faults = steps.len();
        tokio::join!(stage.traffic(traffic), stage.suffer(steps));
        let mut verdict = stage.judge().await;
        verdict.note = format!("{faults} faults in {:?}", Duration::from_secs(traffic.length.as_secs()));
        Ok(verdict)
    }
}
