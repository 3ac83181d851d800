use super::*;
use std::time::Instant;

/// How long the kernel takes an event: `cargo test --release speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn speed_of_150_byte_json() {
    let data = format!("{{\"amount\":1500,\"currency\":\"USD\",\"note\":\"{}\"}}", "x".repeat(108));
    assert_eq!(data.len(), 150);
    for id in [None, Some("order-1234567")] {
        let mut world = World::with_rings(1 << 22, 1 << 20);
        let mut client = world.connect(1);
        let values: Vec<(Tag, &str)> = id.map(|id| (Tag::Id, id)).into_iter().collect();
        let (mut events, mut spent) = (0_u64, std::time::Duration::ZERO);
        while events < 400_000 {
            let first = client.ticket + 1;
            while client.append_with(&values, &data).is_some() {}
            let count = client.ticket + 1 - first;
            let start = Instant::now();
            world.run();
            spent += start.elapsed();
            world.log.forward.poll().unwrap();
            while world.log.forward.next_frame().unwrap().is_some() {}
            world.log.forward.release(world.log.forward.read());
            world.log.answer(client.accepted(first, u32::try_from(count).unwrap()));
            let start = Instant::now();
            world.run();
            spent += start.elapsed();
            client.read_verdicts();
            events += count;
        }
        let ns = spent.as_nanos() as f64 / events as f64;
        println!("150 B JSON, id {id:?}: {ns:.0} ns an event over {events} events");
    }
}
