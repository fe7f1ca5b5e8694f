//! Reading the configuration again, whoever asks: SIGHUP, or `POST /api/v1/reload`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Shared;
use crate::config::{Config, HttpConfig, Reload};

/// Takes a configuration over; returns what could not be, with reasons.
pub type Apply = Box<dyn Fn(&Config) -> Vec<String> + Send + Sync>;

/// How the configuration is read again, and how the server takes it over.
pub struct Reloading {
    /// Reads it from where it was read at the start.
    pub load: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// Takes over what acts outside the control side. What could not be is said, and stays as it was.
    pub apply: Apply,
}

/// What became of a configuration that was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What could not be taken over and stays as it was, each with its reason.
    pub kept: Vec<String>,
    /// Settings that have changed and are only read at the start.
    pub at_start: Vec<String>,
}

impl Shared {
    /// Reads it again and applies what can change while the server runs. A mistake in it changes nothing. All is said in
    /// the log too.
    pub(super) fn reload(&self) -> Result<Reloaded, String> {
        // Two that ask at once get one after the other, so that the last one read is the one that stays.
        let _one_at_a_time = self
            .reload_turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = &self.stats.server;
        let new = (self.reloading.load)().inspect_err(|error| {
            counts.reloads_failed.fetch_add(1, Ordering::Relaxed);
            log::error!("the settings stay as they were:\n{error}");
        })?;
        let http = HttpConfig {
            allowed_hosts: new.http.allowed_hosts.clone(),
            allowed_origins: new.http.allowed_origins.clone(),
            ..self.config.http.clone()
        };
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(http);
        let streams = Arc::from(new.streams.as_slice());
        *self
            .streams_configured
            .write()
            .unwrap_or_else(PoisonError::into_inner) = streams;
        log::set_max_level(new.log.level);
        let mut kept = (self.reloading.apply)(&new);
        if let Some(door) = &self.http_door
            && let Some(own) = new.http_door()
            && let Err(problem) = door.reload(&own, &new.http)
        {
            self.stats.count_failed_certificates();
            kept.push(format!("the HTTP address keeps its certificate: {problem}"));
        }
        for problem in &kept {
            log::error!("{problem}");
        }
        let at_start = self.config.changed(&new, Reload::AtStart);
        if !at_start.is_empty() {
            log::warn!(
                "changed, but only read at the start: {}",
                at_start.join(", ")
            );
        }
        counts.reloads.fetch_add(1, Ordering::Relaxed);
        log::info!("settings read again");
        Ok(Reloaded { kept, at_start })
    }
}
