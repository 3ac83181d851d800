//! iceoryx2, set up to do the ring's work: nothing is lost, one writer, one reader, both spin.
//!
//! A service without safe overflow holds as many samples as a ring of `ring_bytes` holds frames; a
//! publisher that finds it full tries again until it has room, which is iceoryx2's default. Samples
//! are slices of bytes, since events differ in length. What iceoryx2 keeps in files and in
//! `/dev/shm` bears the name of the run's home.

use certeus_bench_native::payload::sum;
use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::{Read, Turn, Write};
use iceoryx2::config::Config;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as PublishSubscribe;

pub type Bytes = [u8];

/// What a ring puts before each payload, and the least that it takes.
const HEADER_BYTES: usize = 16;

fn config(settings: &Settings) -> Config {
    let home = settings.home.as_os_str().as_encoded_bytes();
    let name = settings.home.file_name().expect("a directory").as_encoded_bytes();
    let mut config = Config::default();
    config.global.prefix = FileName::new(&[name, b"-"].concat()).expect("a short name");
    config.global.set_root_path(&Path::new(home).expect("a short path"));
    config
}

/// One direction, seen from one process.
pub struct Channel {
    service: PublishSubscribe<ipc::Service, Bytes, ()>,
    payload_bytes: usize,
}

impl Channel {
    #[must_use]
    pub fn open(name: &str, settings: &Settings) -> Self {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .config(&config(settings))
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .expect("cannot make a node");
        let frame_bytes = (HEADER_BYTES + settings.payload_bytes).next_multiple_of(HEADER_BYTES);
        let service = node
            .service_builder(&name.try_into().expect("a name"))
            .publish_subscribe::<Bytes>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(settings.ring_bytes as usize / frame_bytes)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .expect("cannot open a service");
        Self { service, payload_bytes: settings.payload_bytes }
    }

    /// The writing end, once there is a reading one.
    #[must_use]
    pub fn writer(&self) -> Writer {
        let publisher = self
            .service
            .publisher_builder()
            .initial_max_slice_len(self.payload_bytes)
            .create()
            .expect("cannot make a publisher");
        while self.service.dynamic_config().number_of_subscribers() == 0 {
            std::thread::yield_now();
        }
        Writer(publisher)
    }

    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(self.service.subscriber_builder().create().expect("cannot make a subscriber"))
    }
}

pub struct Writer(Publisher<ipc::Service, Bytes, ()>);

impl Write for Writer {
    #[inline]
    fn write(&mut self, payload: &[u8]) {
        let sample = self.0.loan_slice_uninit(payload.len()).expect("a sample");
        let reached = sample.write_from_slice(payload).send().expect("a reader");
        assert!(reached == 1, "a sample was lost");
    }
}

pub struct Reader(Subscriber<ipc::Service, Bytes, ()>);

impl Read for Reader {
    #[inline]
    fn read(&mut self) -> Turn {
        match self.0.receive().expect("a sound connection") {
            Some(sample) => Turn { events: 1, sum: sum(sample.payload()) },
            None => Turn::default(),
        }
    }
}
