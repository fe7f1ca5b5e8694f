//! The power goes as soon as the first thing is acknowledged: what was never synced, names of directories too, is gone.

use waypost_mqtt::QoS;
use waypost_tests::{ServerOptions, power_cut::PowerCut};

use crate::plain::{durable, take};

/// Each cut loses something else.
const CUTS: u64 = 5;

#[test]
fn a_new_store_is_there_after_a_power_cut() {
    for seed in 0..CUTS {
        let Some(power) = PowerCut::mount(seed) else {
            return;
        };
        // Neither the data directory nor the store in it exists.
        let options = ServerOptions::new().data_dir(&power.path().join("data"));
        let server = options.clone().start();
        let mut subscriber = durable(&server, "subscriber");
        subscriber.subscribe("cut/#", QoS::AtLeastOnce);
        subscriber.disconnect();
        durable(&server, "publisher").publish("cut/a", QoS::AtLeastOnce, b"kept");
        // Killed, so that nobody has a file open.
        drop(server);
        power.cut();
        let server = options.start();
        let messages = take(&mut durable(&server, "subscriber"), 1);
        assert_eq!(messages[0].publish().payload, b"kept");
    }
}
