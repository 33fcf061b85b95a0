use bytes::{Buf, Bytes};
use h2::server;
use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const PRIORITY: u8 = 2;

fn head() -> request::Parts {
    let request =
        Request::post("http://agent.figspan/figspan.v1.Discovery/Watch").header("te", "trailers").header("x-long", "v".repeat(300));
    request.body(()).unwrap().into_parts().0
}

fn client() -> Client {
    let mut client = Client::new(&head());
    client.unsent();
    client
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, stream, payload);
    out
}

fn settings() -> Vec<u8> {
    frame(frame::SETTINGS, 0, 0, &[])
}

/// `:status 200`, and the end of the block.
fn answer() -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x88])
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(frame::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// What a client says of these frames, behind settings.
fn events(frames: &[Vec<u8>]) -> Result<Vec<Event>, Broken> {
    let mut client = client();
    client.feed(&settings());
    client.feed(&frames.concat());
    let mut events = Vec::new();
    while let Some(event) = client.next()? {
        let end = matches!(event, Event::End);
        events.push(event);
        if end {
            break;
        }
    }
    Ok(events)
}

fn broken(frames: &[Vec<u8>]) -> String {
    events(frames).map(|events| format!("{events:?}")).unwrap_err().to_string()
}

/// What a client hears over a real connection, its request's body of these pieces going out meanwhile.
async fn call(mut io: DuplexStream, pieces: Vec<Vec<u8>>) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let mut client = Client::new(&head());
    let (mut answer, mut heard, mut trailers) = (None, Vec::new(), None);
    let mut pieces = pieces.into_iter().map(Bytes::from);
    let (mut rest, mut finished, mut unsent) = (Bytes::new(), false, BytesMut::new());
    let mut buffer = [0; 1000];
    loop {
        while let Some(event) = client.next().unwrap() {
            match event {
                Event::Head(head) => answer = Some(head),
                Event::Data(data) => heard.extend_from_slice(&data),
                Event::Trailers(fields) => trailers = Some(fields),
                Event::End => {
                    client.leave();
                    unsent.extend_from_slice(&client.unsent());
                    io.write_all(&unsent).await.unwrap();
                    return (answer.unwrap(), heard, trailers);
                }
            }
        }
        if rest.is_empty() && !finished {
            rest = pieces.next().unwrap_or_default();
            finished = rest.is_empty();
            if finished {
                client.finish();
            }
        }
        if unsent.is_empty() {
            let room = client.room().min(rest.len());
            if room > 0 {
                client.body(&rest.split_to(room));
            }
        }
        unsent.extend_from_slice(&client.unsent());
        let (mut read, mut write) = tokio::io::split(io);
        // Both ways at once: either end may wait for the other to read.
        tokio::select! {
            wrote = write.write(&unsent), if !unsent.is_empty() => unsent.advance(wrote.unwrap()),
            read = read.read(&mut buffer) => client.feed(&buffer[..read.unwrap()]),
        }
        io = read.unsplit(write);
    }
}

/// A real server that gives back the body of its request in an answer with trailers.
async fn parrot(io: DuplexStream, window: u32) -> request::Parts {
    let mut connection = server::Builder::new().initial_window_size(window).handshake::<_, Bytes>(io).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let (head, mut body) = request.into_parts();
    let echo = async move {
        let answer = Response::builder().header("x-empty", "").header("x-long", "w".repeat(2000)).body(()).unwrap();
        let mut send = respond.send_response(answer, false).unwrap();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            send.send_data(data, false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("grpc-message", HeaderValue::from_static("d%C3%A9j%C3%A0 vu"));
        send.send_trailers(trailers).unwrap();
    };
    tokio::join!(echo, async { while connection.accept().await.is_some() {} });
    head
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the windows and however the bytes are cut, a real server hears and says what was said.
    #[test]
    fn a_real_server_understands_and_is_understood(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40_000), 0..8),
        pipe in 100_usize..20_000,
        window in 1_u32..100_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (near, far) = duplex(pipe);
        // A window of a byte for 300 KB would take a while.
        let window = if window < 1000 { window.max(100) } else { window };
        let said = pieces.concat();
        let (seen, (answer, heard, trailers)) = runtime.block_on(async { tokio::join!(parrot(far, window), call(near, pieces)) });
        prop_assert_eq!(seen.uri, head().uri);
        prop_assert_eq!(seen.headers, head().headers);
        prop_assert_eq!(answer.status(), 200);
        prop_assert_eq!(answer.headers()["x-long"].len(), 2000);
        prop_assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
        let trailers = trailers.unwrap();
        prop_assert_eq!(trailers["grpc-message"].as_bytes(), b"d%C3%A9j%C3%A0 vu");
    }

    /// Bytes of any kind are an error or not, and how they were cut decides nothing.
    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        frames in proptest::collection::vec((0_u8..12, any::<u8>(), 0_u32..3, proptest::collection::vec(any::<u8>(), 0..20)), 0..12),
        cut in 1_usize..40,
    ) {
        let frames = frames.iter().map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload));
        let bytes = [settings(), answer()].into_iter().chain(frames).collect::<Vec<_>>().concat();
        prop_assert_eq!(told([&bytes[..]]), told(bytes.chunks(cut)));
    }
}

#[test]
fn between_two_frames_nothing_is_kept() {
    let mut client = client();
    client.feed(&[settings(), answer(), frame(frame::DATA, 0, 1, &[7; 5000])].concat());
    assert!(matches!(client.next(), Ok(Some(Event::Head(_)))));
    assert!(matches!(client.next(), Ok(Some(Event::Data(data))) if data.len() == 5000));
    assert!(matches!(client.next(), Ok(None)));
    client.unsent();
    assert_eq!((client.unread.capacity(), client.unsent.capacity()), (0, 0));
}

#[test]
fn an_answer_may_be_padded_in_pieces_and_after_a_hundred() {
    let hundred = frame(frame::HEADERS, frame::END_HEADERS, 1, b"\x08\x03103");
    let padded = frame(frame::HEADERS, frame::PADDED | frame::WITH_PRIORITY, 1, &[2, 0, 0, 0, 0, 16, 0x88, 9, 9]);
    let more = frame(frame::CONTINUATION, frame::END_HEADERS, 1, b"\x00\x01a\x01b");
    let data = frame(frame::DATA, frame::PADDED, 1, &[3, b'x', 0, 0, 0]);
    let empty = frame(frame::DATA, frame::PADDED, 1, &[0]);
    let end = frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, b"\x10\x0bgrpc-status\x010");
    match &events(&[hundred, padded, more, data, empty, end]).unwrap()[..] {
        [Event::Head(head), Event::Data(data), Event::Trailers(trailers), Event::End] => {
            assert_eq!((head.headers()["a"].as_bytes(), &data[..], trailers["grpc-status"].as_bytes()), (&b"b"[..], &b"x"[..], &b"0"[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pings_and_settings_are_answered_and_what_is_not_known_is_passed_over() {
    let mut client = client();
    let ping = frame(frame::PING, 0, 0, b"12345678");
    client.feed(
        &[settings(), ping, frame(frame::PING, frame::ACK, 0, b"87654321"), frame(99, 255, 7, b"?"), frame(PRIORITY, 0, 5, &[0; 5])]
            .concat(),
    );
    assert!(client.next().unwrap().is_none());
    let answers = [frame(frame::SETTINGS, frame::ACK, 0, &[]), frame(frame::PING, frame::ACK, 0, b"12345678")].concat();
    assert_eq!(client.waiting(), answers.len());
    assert_eq!(client.unsent(), answers);
}

#[test]
fn windows_bound_what_is_sent() {
    let mut client = client();
    let mut sent = 0;
    while client.room() > 0 {
        let room = client.room();
        client.body(&vec![0; room]);
        sent += room;
    }
    assert_eq!(sent, USUAL_WINDOW as usize);
    client.feed(&[settings(), setting(INITIAL_WINDOW_SIZE, 65_000)].concat());
    client.feed(&frame(frame::WINDOW_UPDATE, 0, 0, &1000_u32.to_be_bytes()));
    client.next().unwrap();
    assert_eq!(client.room(), 0, "the stream's window is below nothing");
    client.feed(&frame(frame::WINDOW_UPDATE, 0, 1, &600_u32.to_be_bytes()));
    client.next().unwrap();
    assert_eq!(client.room(), 65);
}

#[test]
fn what_is_read_makes_room_and_no_more_is_taken() {
    let piece = frame(frame::DATA, 0, 1, &[0; frame::MAX_PAYLOAD]);
    let fits = WINDOW as usize / frame::MAX_PAYLOAD;
    let mut reading = client();
    reading.feed(&[settings(), answer()].concat());
    for _ in 0..3 * fits {
        reading.feed(&piece);
        while reading.next().unwrap().is_some() {}
    }
    let updates = reading.unsent();
    let each = frame::HEAD + 4;
    // Each half of the window, on the connection and on the stream, behind the settings' acknowledgement.
    assert_eq!(updates.len(), frame::HEAD + 6 * 2 * each);
    assert_eq!(&updates[updates.len() - 4..], (WINDOW / 2).to_be_bytes());

    let mut greedy = client();
    greedy.may_receive = 10;
    greedy.feed(&[settings(), answer(), frame(frame::DATA, 0, 1, &[0; 11])].concat());
    greedy.next().unwrap();
    assert_eq!(greedy.next().unwrap_err(), Broken::Protocol("more than its window allows"));
}

#[test]
fn an_agent_that_leaves_or_gives_up_says_why() {
    let goaway = |last: u32, code: u32| frame(frame::GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"enough"].concat());
    assert_eq!(broken(&[frame(frame::RST_STREAM, 0, 1, &7_u32.to_be_bytes())]), "the agent reset its call: REFUSED_STREAM");
    assert_eq!(broken(&[goaway(0, 11)]), "the agent ended its connection: ENHANCE_YOUR_CALM");
    let mut client = client();
    client.feed(&[settings(), goaway(1, 77), answer()].concat());
    assert!(matches!(client.next(), Ok(Some(Event::Head(_)))), "the call goes on");
    assert_eq!(client.cut_off().to_string(), "the agent ended its connection: code 77");
}

#[test]
fn what_is_not_http2_is_refused() {
    let block = |block: &[u8]| vec![frame(frame::HEADERS, frame::END_HEADERS, 1, block)];
    let pieces = |count| {
        let empty = frame(frame::CONTINUATION, 0, 1, &[]);
        [vec![frame(frame::HEADERS, 0, 1, &[0x88])], vec![empty; count]].concat()
    };
    let many = [&b"\x88"[..], &b"\x00\x01a\x00".repeat(500)].concat();
    let kilo = frame(frame::CONTINUATION, 0, 1, &[0; 9000]);
    let cases: &[(Vec<Vec<u8>>, &str)] = &[
        (vec![vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1]], "a frame that is too long"),
        (vec![frame(frame::DATA, 0, 1, b"x")], "a body before its head"),
        (vec![frame(frame::HEADERS, frame::END_HEADERS, 3, &[0x88])], "a frame of a stream that is none"),
        (vec![frame(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[0, 0, 0, 2])], "a frame of a stream that is none"),
        (vec![frame(frame::RST_STREAM, 0, 3, &[0; 4])], "a reset of a stream that is none"),
        (vec![frame(frame::RST_STREAM, 0, 1, &[0; 5])], "a frame of the wrong length"),
        (vec![frame(frame::CONTINUATION, 0, 1, &[])], "a continuation of nothing"),
        (vec![frame(frame::HEADERS, 0, 1, &[0x88]), settings()], "a header block with something in between"),
        (pieces(40), "more fields than are read"),
        (vec![frame(frame::HEADERS, 0, 1, &[0x88]), kilo.clone(), kilo], "more fields than are read"),
        (block(&many), "more fields than are read"),
        (vec![frame(frame::HEADERS, frame::WITH_PRIORITY, 1, &[0; 4])], "a header block without its beginning"),
        (vec![frame(frame::HEADERS, frame::PADDED, 1, &[5, 0x88])], "more padding than frame"),
        (block(&[0xbe]), "a header block that cannot be read"),
        (block(&[0x80]), "a header block that cannot be read"),
        (block(&[0x3f, 0xe1, 0x1f]), "a header block that cannot be read"),
        (block(b"\x88\x00\x05abc"), "a header block that cannot be read"),
        (block(b"\x00\x01a\x01b"), "an answer without a status"),
        (block(b"\x88\x88"), "a status twice, or behind other fields"),
        (block(b"\x00\x01a\x01b\x88"), "a status twice, or behind other fields"),
        (block(b"\x08\x022x"), "a status that is none"),
        (block(b"\x88\x00\x01A\x01b"), "a field name that is none"),
        (block(b"\x88\x00\x01a\x01\n"), "a field value that is none"),
        (block(b"\x88\x00\x0aconnection\x01b"), "a field of a connection"),
        (vec![answer(), answer()], "fields within a body"),
        (vec![frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, b"\x08\x03100")], "an end without an answer"),
        (vec![frame(frame::SETTINGS, 0, 0, &[0; 5])], "settings that are none"),
        (vec![frame(frame::SETTINGS, frame::ACK, 0, &[0; 6])], "settings that are none"),
        (vec![frame(frame::SETTINGS, 0, 1, &[])], "settings that are none"),
        (vec![setting(INITIAL_WINDOW_SIZE, 1 << 31)], "a window that is too large"),
        (vec![setting(MAX_FRAME_SIZE, 16_383)], "a frame size that is too small"),
        (vec![setting(ENABLE_PUSH, 1)], "a wish that servers may not have"),
        (vec![frame(frame::PING, 0, 0, &[0; 7])], "a ping that is none"),
        (vec![frame(frame::GOAWAY, 0, 0, &[0; 7])], "a frame of the wrong length"),
        (vec![frame(frame::WINDOW_UPDATE, 0, 0, &[0; 4])], "a window that grows by nothing"),
        (vec![frame(frame::WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1])], "a window of a stream that is none"),
        (vec![frame(frame::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])], "a window that is too large"),
    ];
    for (frames, what) in cases {
        assert_eq!(broken(frames), format!("the agent sent {what} (RFC 9113)"), "{frames:?}");
    }
    let mut early = client();
    early.feed(&answer());
    assert_eq!(early.next().unwrap_err(), Broken::Protocol("something before its settings"));
}
