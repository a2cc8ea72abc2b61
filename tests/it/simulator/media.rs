//! Files: temporary ones, the permanent library, pictures for articles, what a page recorded.

use serde_json::{Value, json};

use super::world::{AMR, GIF, JPG, MP4, PNG, World};

const UPLOAD: &str = "/cgi-bin/media/upload";
const ADD: &str = "/cgi-bin/material/add_material";

/// The whole answer of a call by GET: type, disposition, bytes.
async fn file(world: &World, path: &str) -> (String, String, Vec<u8>) {
    let url = format!("{}{}", world.url, world.with_token(path).await);
    let response = world.client.get(url).send().await.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let (content_type, disposition) = (header("content-type"), header("content-disposition"));
    let bytes = response.bytes().await.unwrap().to_vec();
    (content_type, disposition, bytes)
}

#[tokio::test]
async fn a_temporary_file_comes_back_for_three_days() {
    let world = World::start().await;
    let clock = world.get("/_sim/clock").await;
    let answer = world
        .upload(&format!("{UPLOAD}?type=image"), "照片.JPG", JPG, None)
        .await;
    assert_eq!(answer["type"], "image");
    assert!(answer["created_at"].as_i64() >= clock["now"].as_i64());
    let media_id = answer["media_id"].as_str().unwrap();
    let path = format!("/cgi-bin/media/get?media_id={media_id}");
    let (content_type, disposition, bytes) = file(&world, &path).await;
    assert_eq!(content_type, "image/jpeg");
    assert_eq!(
        disposition,
        format!("attachment; filename=\"{media_id}.jpg\"")
    );
    assert_eq!(bytes, JPG);
    let log = world.get("/_sim/requests?limit=2").await;
    assert_eq!(
        log[0]["response_body"],
        format!("image/jpeg, {} bytes", JPG.len())
    );
    assert_eq!(
        log[1]["request_body"],
        format!("media: 照片.JPG, {} bytes", JPG.len())
    );

    let thumb = world
        .upload(&format!("{UPLOAD}?type=thumb"), "a.jpeg", JPG, None)
        .await;
    assert!(thumb["thumb_media_id"].is_string() && thumb.get("media_id").is_none());
    let video = world
        .upload(&format!("{UPLOAD}?type=video"), "a.mp4", MP4, None)
        .await;
    let video = video["media_id"].as_str().unwrap();
    let video = world
        .ask(&format!("/cgi-bin/media/get?media_id={video}"))
        .await;
    let video = world.client.get(video["video_url"].as_str().unwrap());
    let video = video.send().await.unwrap();
    assert_eq!(video.headers()["content-type"], "video/mp4");
    assert_eq!(video.bytes().await.unwrap(), MP4);

    world.advance(3 * 24 * 3600 - 60).await;
    assert_eq!(file(&world, &path).await.2, JPG);
    world.advance(60).await;
    let gone = world.ask(&path).await;
    assert_eq!(gone["errcode"], 40007);
    assert!(
        gone["errmsg"]
            .as_str()
            .unwrap()
            .starts_with("invalid media_id rid: ")
    );
}

#[tokio::test]
async fn only_what_a_page_recorded_is_a_recording() {
    let world = World::start().await;
    let voice = world
        .upload(&format!("{UPLOAD}?type=voice"), "a.amr", AMR, None)
        .await;
    let voice = voice["media_id"].as_str().unwrap();
    let path = format!("/cgi-bin/media/get/jssdk?media_id={voice}");
    assert_eq!(world.ask(&path).await["errcode"], 40007);
    let url = format!("{}/_sim/media?type=voice&from=jssdk", world.url);
    let recorded = world
        .client
        .post(url)
        .body("speex frames")
        .send()
        .await
        .unwrap();
    let recorded: Value = recorded.json().await.unwrap();
    let media_id = recorded["media_id"].as_str().unwrap();
    let path = format!("/cgi-bin/media/get/jssdk?media_id={media_id}");
    let (content_type, _, bytes) = file(&world, &path).await;
    assert_eq!(content_type, "voice/speex");
    assert_eq!(bytes, b"speex frames");
    let missing = world.ask("/cgi-bin/media/get/jssdk").await;
    assert_eq!(missing["errcode"], 41006);
    let url = format!("{}/_sim/media?type=image", world.url);
    let refused = world
        .client
        .post(url)
        .body("no picture")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn files_of_a_wrong_kind_or_size_are_refused() {
    let world = World::start().await;
    let padded = |head: &[u8], bytes: usize| [head, &vec![0; bytes]].concat();
    for path in [UPLOAD, ADD] {
        for (kind, name, bytes, errcode) in [
            ("dance", "a.jpg", JPG.to_vec(), 40004),
            ("image", "a.txt", JPG.to_vec(), 40005),
            ("image", "a.jpg", AMR.to_vec(), 40137),
            ("image", "a.jpg", Vec::new(), 44001),
            ("image", "a.jpg", padded(JPG, 10 << 20), 40009),
            ("voice", "a.mp4", AMR.to_vec(), 40005),
            ("voice", "a.amr", JPG.to_vec(), 40113),
            ("voice", "a.amr", padded(AMR, 2 << 20), 40010),
            ("video", "a.mp4", padded(MP4, 10 << 20), 40011),
            ("thumb", "a.jpg", padded(JPG, 64 << 10), 40012),
            ("thumb", "a.png", PNG.to_vec(), 40005),
        ] {
            let path = format!("{path}?type={kind}");
            let answer = world.upload(&path, name, &bytes, None).await;
            assert_eq!(answer["errcode"], errcode, "{path} {name}");
        }
        let image = format!("{path}?type=image");
        assert_eq!(world.call(&image, &json!({})).await["errcode"], 41005);
        let good = world.upload(&image, "a.gif", GIF, None).await;
        assert!(good["media_id"].is_string());
        // A name without an extension is judged by the bytes alone.
        let good = world.upload(&image, "picture", PNG, None).await;
        assert!(good["media_id"].is_string());
    }
    for (name, bytes, errcode) in [
        ("a.txt", PNG.to_vec(), 40005),
        ("a.png", AMR.to_vec(), 40137),
        ("a.gif", GIF.to_vec(), 40137),
        ("a.png", Vec::new(), 44001),
        ("a.png", padded(PNG, 1 << 20), 40009),
    ] {
        let answer = world
            .upload("/cgi-bin/media/uploadimg", name, &bytes, None)
            .await;
        assert_eq!(answer["errcode"], errcode, "{name}");
    }
    let no_file = world.call("/cgi-bin/media/uploadimg", &json!({})).await;
    assert_eq!(no_file["errcode"], 41005);
    let picture = world
        .upload("/cgi-bin/media/uploadimg", "a.png", PNG, None)
        .await;
    world.advance(400 * 24 * 3600).await;
    let shown = world.client.get(picture["url"].as_str().unwrap());
    assert_eq!(shown.send().await.unwrap().bytes().await.unwrap(), PNG);

    let news = "/cgi-bin/media/uploadnews";
    let video = "/cgi-bin/media/uploadvideo";
    let voice = world
        .upload(&format!("{UPLOAD}?type=voice"), "a.amr", AMR, None)
        .await;
    for (path, body, errcode) in [
        (video, json!({"media_id": "none"}), 40007),
        (video, json!({"media_id": voice["media_id"]}), 40007),
        (news, json!({"articles": []}), 44003),
        (
            news,
            json!({"articles": [{"title": "x", "thumb_media_id": "none"}]}),
            40007,
        ),
    ] {
        world.refuses(path, &body, errcode).await;
    }
    let media = |id: &str| format!("/cgi-bin/media/get{id}");
    for (path, errcode) in [
        ("", 41006),
        ("?media_id=none", 40007),
        ("/jssdk?media_id=none", 40007),
    ] {
        assert_eq!(world.ask(&media(path)).await["errcode"], errcode);
    }
    assert_eq!(world.ask(&media("/jssdk")).await["errcode"], 41006);
}

#[tokio::test]
async fn the_library_keeps_what_is_added_until_it_is_deleted() {
    let world = World::start().await;
    let image = world
        .upload(&format!("{ADD}?type=image"), "一.png", PNG, None)
        .await;
    let thumb = world
        .upload(&format!("{ADD}?type=thumb"), "二.jpg", JPG, None)
        .await;
    let voice = world
        .upload(&format!("{ADD}?type=voice"), "三.amr", AMR, None)
        .await;
    let described = r#"{"title":"片","introduction":"介绍"}"#;
    let video = world
        .upload(&format!("{ADD}?type=video"), "四.mp4", MP4, Some(described))
        .await;
    let in_query: String = url::form_urlencoded::byte_serialize(described.as_bytes()).collect();
    let in_query = format!("{ADD}?type=video&description={in_query}");
    let in_query = world.upload(&in_query, "四.mp4", MP4, None).await;
    world
        .must("/cgi-bin/material/del_material", &in_query)
        .await;
    let no_words = world
        .upload(&format!("{ADD}?type=video"), "四.mp4", MP4, None)
        .await;
    assert_eq!(no_words["errcode"], 47001);
    assert!(image["url"].is_string() && voice.get("url").is_none());
    world.advance(400 * 24 * 3600).await;
    assert_eq!(
        world.ask("/cgi-bin/material/get_materialcount").await,
        json!({"voice_count": 1, "video_count": 1, "image_count": 2, "news_count": 0})
    );
    let list = "/cgi-bin/material/batchget_material";
    let images = json!({"type": "image", "offset": 0, "count": 20});
    let images = world.must(list, &images).await;
    assert_eq!(
        (&images["total_count"], &images["item_count"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(images["item"][0]["media_id"], thumb["media_id"]);
    assert_eq!(images["item"][1]["name"], "一.png");
    let rest = json!({"type": "image", "offset": 1, "count": 1});
    let rest = world.must(list, &rest).await;
    assert_eq!(rest["item"][0]["media_id"], image["media_id"]);

    let get = "/cgi-bin/material/get_material";
    let url = format!("{}{}", world.url, world.with_token(get).await);
    let body = json!({"media_id": voice["media_id"]}).to_string();
    let bytes = world.client.post(url).body(body).send().await.unwrap();
    assert_eq!(bytes.bytes().await.unwrap(), AMR);
    let read = world
        .must(get, &json!({"media_id": video["media_id"]}))
        .await;
    assert_eq!(
        (&read["title"], &read["description"]),
        (&json!("片"), &json!("介绍"))
    );
    let down = world.client.get(read["down_url"].as_str().unwrap());
    assert_eq!(down.send().await.unwrap().bytes().await.unwrap(), MP4);

    let delete = "/cgi-bin/material/del_material";
    let gone = json!({"media_id": image["media_id"]});
    world.must(delete, &gone).await;
    world.refuses(delete, &gone, 40007).await;
    world.refuses(get, &gone, 40007).await;
    world
        .refuses(
            list,
            &json!({"type": "dance", "offset": 0, "count": 1}),
            40004,
        )
        .await;
    world
        .refuses(
            list,
            &json!({"type": "image", "offset": 0, "count": 21}),
            40035,
        )
        .await;
    world
        .refuses(
            list,
            &json!({"type": "image", "offset": -1, "count": 1}),
            40035,
        )
        .await;
    for name in ["add_news", "update_news"] {
        let path = format!("/cgi-bin/material/{name}");
        world.refuses(&path, &json!({"articles": []}), 45106).await;
    }
}
