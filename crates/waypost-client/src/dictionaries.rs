//! Dictionaries that messages are packed with, as the server shows them: `$dictionary/<id>`, retained.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use waypost_compress::dictionary::{Dictionaries, Dictionary};

use crate::client::Client;
use crate::content::ContentError;
use crate::subscription::Subscribe;

/// Dictionaries kept; beyond, all but the newest are fetched again when they are needed.
const DICTIONARIES_MAX: usize = 32;
/// How long the server may take to show one.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The dictionaries that have been fetched.
#[derive(Debug, Default)]
pub(crate) struct Library(Mutex<HashMap<u32, Arc<Dictionary>>>);

impl Dictionaries for Library {
    fn find(&self, id: u32) -> Option<Arc<Dictionary>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned()
    }
}

impl Library {
    fn insert(&self, dictionary: Dictionary) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DICTIONARIES_MAX {
            known.clear();
        }
        known.insert(dictionary.id(), Arc::new(dictionary));
    }

    /// Asks the server for a dictionary.
    pub(crate) async fn fetch(&self, client: Client, id: u32) -> Result<(), ContentError> {
        if self.find(id).is_some() {
            return Ok(());
        }
        let failed = |why: String| ContentError::Dictionary { id, why };
        let asked = async {
            let filter = Subscribe::to(format!("$dictionary/{id}"));
            let shown = client.subscribe(filter).await;
            let mut shown = shown.map_err(|error| failed(error.to_string()))?;
            let message = shown.next_raw().await;
            message.ok_or_else(|| failed("the client ended".to_owned()))
        };
        client.awaits(1);
        let answer = tokio::time::timeout(FETCH_TIMEOUT, asked).await;
        client.awaits(-1);
        let message = answer.map_err(|_| failed("it has none of that number".to_owned()))??;
        let dictionary = Dictionary::new(message.into_payload());
        let dictionary = dictionary.map_err(|error| failed(error.to_string()))?;
        if dictionary.id() != id {
            return Err(failed(format!("it shows {}", dictionary.id())));
        }
        self.insert(dictionary);
        Ok(())
    }
}
