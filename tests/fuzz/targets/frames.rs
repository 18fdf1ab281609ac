//! WebSocket frames, arriving in pieces, against tungstenite. The first byte limits a message, and the next three say
//! how long the pieces are, over and over; the others are what a client sends.
#![no_main]

use fuzz::agreement::assert_agree;
use libfuzzer_sys::fuzz_target;
use video_notifier::protocol::MAX_INCOMING;

fuzz_target!(|input: &[u8]| {
    let Some(([limit, pieces @ ..], bytes)) = input.split_first_chunk::<4>() else { return };
    let max_message = if *limit < 200 { usize::from(*limit) } else { MAX_INCOMING };
    assert_agree(bytes, &pieces.map(|size| usize::from(size) + 1), max_message);
});
