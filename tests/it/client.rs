//! The client of the API: files and customer-service messages, against the simulated platform.

use offiaccount::api::{Client, CustomMessage, MediaKind};
use offiaccount::wechat::id::OpenId;
use offiaccount::{Bot, Context, Reply};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::helpers::{Setup, World};

const UPLOAD: &str = "/cgi-bin/media/upload";
const SEND: &str = "/cgi-bin/message/custom/send";
const JPG: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\r\n--\r\n";

/// A world, the first fan, who has just written, and the client that the handlers have.
async fn with_client() -> (World, OpenId, Client) {
    let (lend, mut lent) = mpsc::unbounded_channel();
    let bot = Bot::new().fallback(move |ctx: Context| {
        lend.send(ctx.api().clone()).unwrap();
        async { Reply::None }
    });
    let world = Setup::new().bot(bot).start().await;
    let fan = world.fan().await;
    let said = json!({"openid": fan, "MsgType": "text", "Content": "在吗"});
    world.act(said).await;
    let client = lent.recv().await.unwrap();
    (world, OpenId::parse(&fan).unwrap(), client)
}

/// The last call of `path` that the platform received.
async fn last_call(world: &World, path: &str) -> Value {
    let requests = world.sim("requests", None).await;
    let mut requests = requests.as_array().unwrap().iter();
    requests.find(|call| call["path"] == path).unwrap().clone()
}

/// What the last bubble of the fan's chat shows.
async fn last_shown(world: &World, fan: &OpenId) -> (Value, Value) {
    let chat = world.sim(&format!("chat?openid={fan}"), None).await;
    let last = chat["messages"].as_array().unwrap().last().unwrap().clone();
    (last["shown"].clone(), last["message"]["custom"].clone())
}

async fn say(client: &Client, fan: &OpenId, reply: impl Into<Reply>) -> Option<i64> {
    let message = CustomMessage::of(&reply.into()).unwrap();
    let refused = client.send_custom(fan, &message).await.err()?;
    Some(refused.errcode().expect("an errcode"))
}

#[tokio::test]
async fn an_uploaded_file_arrives_whole_and_under_its_name() {
    let (world, _, client) = with_client().await;
    for (kind, name, bytes, logged) in [
        (
            MediaKind::Image,
            "我的\"图\";.jpg",
            JPG,
            "我的%22图%22;.jpg",
        ),
        (MediaKind::Thumb, "a.jpeg", JPG, "a.jpeg"),
        (MediaKind::Voice, "a.AMR", b"#!AMR\n1", "a.AMR"),
        (MediaKind::Video, "a.mp4", b"\0\0\0\x18ftypmp42", "a.mp4"),
    ] {
        let media = client.upload_media(kind, name, bytes).await.unwrap();
        let call = last_call(&world, UPLOAD).await;
        assert_eq!(
            call["request_body"],
            format!("media: {logged}, {} bytes", bytes.len())
        );
        let url = format!("{}/_sim/media?media_id={}", world.sim, media.media_id);
        let kept = world.send(world.http.get(url)).await;
        assert_eq!(kept.bytes().await.unwrap(), bytes, "{kind:?}");
        let clock = world.sim("clock", None).await;
        assert!(clock["now"].as_u64().unwrap() - media.created_at < 60);
    }
}

#[tokio::test]
async fn a_file_that_the_platform_does_not_take_is_refused_with_its_code() {
    let (_world, _, client) = with_client().await;
    let upload = async |kind, name: String, bytes: Vec<u8>| {
        let refused = client.upload_media(kind, &name, bytes).await.unwrap_err();
        refused.errcode()
    };
    // What the rules of our own say of a file, the platform says too.
    for kind in MediaKind::ALL {
        let extension = kind.extensions()[0];
        let name = format!("a.{extension}");
        let over = usize::try_from(kind.max_bytes()).unwrap() + 1;
        let too_large = match kind {
            MediaKind::Image => 40009,
            MediaKind::Voice => 40010,
            MediaKind::Video => 40011,
            MediaKind::Thumb => 40012,
        };
        assert_eq!(
            upload(kind, name.clone(), vec![0; over]).await,
            Some(too_large)
        );
        assert_eq!(upload(kind, name, vec![]).await, Some(44001));
        assert_eq!(
            upload(kind, "a.txt".into(), JPG.to_vec()).await,
            Some(40005)
        );
    }
}

#[tokio::test]
async fn a_call_that_writes_is_repeated_where_the_token_was_refused_and_only_there() {
    let (world, fan, client) = with_client().await;
    world.fault(UPLOAD, json!({"errcode": 42001}), 1).await;
    client
        .upload_media(MediaKind::Image, "a.jpg", JPG)
        .await
        .unwrap();
    assert_eq!(world.calls(UPLOAD).await, 2);

    world.fault(SEND, json!({"errcode": 40001}), 1).await;
    assert_eq!(say(&client, &fan, "一").await, None);
    assert_eq!(world.calls(SEND).await, 2);
    assert_eq!(last_shown(&world, &fan).await.0, "一");

    // Busy: whether he has seen it nobody knows.
    world.fault(SEND, json!({"errcode": -1}), 1).await;
    assert_eq!(say(&client, &fan, "二").await, Some(-1));
    assert_eq!(world.calls(SEND).await, 3);
    assert_eq!(last_shown(&world, &fan).await.0, "一");
}

#[tokio::test]
async fn every_kind_of_customer_service_message_reaches_the_fan() {
    let (world, fan, client) = with_client().await;
    let upload = async |kind, name, bytes: &'static [u8]| {
        let media = client.upload_media(kind, name, bytes).await.unwrap();
        media.media_id
    };
    let some = |text: &str| Some(text.to_owned());
    let image = Reply::Image {
        media_id: upload(MediaKind::Image, "a.jpg", JPG).await,
    };
    let voice = Reply::Voice {
        media_id: upload(MediaKind::Voice, "a.amr", b"#!AMR\n1").await,
    };
    let video = Reply::Video {
        media_id: upload(MediaKind::Video, "a.mp4", b"\0\0\0\x18ftypmp42").await,
        title: some("标题"),
        description: None,
    };
    let music = Reply::Music {
        title: some("歌"),
        description: some("说明"),
        music_url: some("https://shop.example.test/a.mp3"),
        hq_music_url: None,
        thumb_media_id: Some(upload(MediaKind::Thumb, "a.jpg", JPG).await),
    };
    let card = offiaccount::wechat::reply::Article {
        title: "新品".into(),
        ..Default::default()
    };
    for (reply, shown) in [
        (Reply::from("你好\n\"世界\" 😀"), "你好\n\"世界\" 😀"),
        (image, "[图片]"),
        (voice, "[语音]"),
        (video, "[视频] 标题"),
        (music, "[音乐] 歌"),
    ] {
        assert_eq!(say(&client, &fan, reply).await, None, "{shown}");
        assert_eq!(last_shown(&world, &fan).await.0, shown);
    }
    // Five to a message. With the next message there are five more.
    let news = Reply::News(vec![card]);
    assert_eq!(say(&client, &fan, news.clone()).await, Some(45047));
    let said = json!({"openid": fan, "MsgType": "text", "Content": "还有吗"});
    world.act(said).await;
    assert_eq!(say(&client, &fan, news).await, None);
    let (shown, custom) = last_shown(&world, &fan).await;
    assert_eq!(shown, "[图文] 新品");
    assert_eq!(custom["articles"][0]["title"], "新品");
}

#[tokio::test]
async fn the_fan_sees_that_the_account_is_writing() {
    let (world, fan, client) = with_client().await;
    let until = async || {
        let fans = world.sim("fans", None).await;
        let mut fans = fans.as_array().unwrap().iter();
        let him = fans.find(|him| him["openid"] == fan.as_str()).unwrap();
        him["typing_until"].as_i64().unwrap()
    };
    let clock = world.sim("clock", None).await["now"].as_i64().unwrap();
    client.show_typing(&fan).await.unwrap();
    assert!(until().await >= clock + 15);
    let twice = client.show_typing(&fan).await.unwrap_err();
    assert_eq!(twice.errcode(), Some(45081));
    client.cancel_typing(&fan).await.unwrap();
    assert!(until().await < clock + 15);
}
