//! What only MongoDB can show.

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::mongod::Mongod;
use super::*;

pub(super) async fn database(place: &Place) -> mongodb::Database {
    let client = Client::with_uri_str(&place.url).await.unwrap();
    client.default_database().unwrap()
}

#[tokio::test]
async fn without_a_server_opening_fails_soon_and_names_the_host_alone() {
    for (url, host) in [
        ("mongodb://user:canary@127.0.0.1:1/wx", "127.0.0.1:1"),
        (
            "mongodb://user:canary@127.0.0.1:1,127.0.0.1:2/wx?replicaSet=r",
            "127.0.0.1:2",
        ),
    ] {
        let began = Instant::now();
        match open(url).await.map(drop) {
            Err(StoreError::Unavailable(text)) => {
                assert!(text.contains(host), "{text}");
                assert!(text.contains("Connection refused"), "{text}");
                assert!(!text.contains("canary"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn its_indexes_are_made_and_mended() {
    let place = Place::mongodb(mongod::replica_set).await;
    let database = database(&place).await;
    // An older version's, or an operator's.
    database
        .run_command(doc! {
            "createIndexes": "sessions",
            "indexes": [{ "name": "expires_at", "key": { "expires_at": 1 }, "expireAfterSeconds": 5 }],
        })
        .await
        .unwrap();
    for _ in 0..2 {
        place.open().await;
    }
    for (collection, expected) in [
        ("sessions", vec!["_id_", "expires_at", "openid"]),
        ("sign_ins", vec!["_id_", "expires_at"]),
        ("conversations", vec!["_id_", "due_at", "expires_at"]),
        ("handled", vec!["_id_", "expires_at"]),
        (
            "dead_letters",
            vec!["_id_", "expires_at", "openid", "position"],
        ),
        ("uploads", vec!["_id_", "expires_at"]),
        ("keys", vec!["_id_", "digest", "expires_at"]),
        ("audit", vec!["_id_", "at", "expires_at"]),
    ] {
        let collection = database.collection::<Document>(collection);
        let mut found = collection.list_index_names().await.unwrap();
        found.sort();
        assert_eq!(found, expected);
        let mut indexes = collection.list_indexes().await.unwrap();
        while indexes.advance().await.unwrap() {
            let index = indexes.deserialize_current().unwrap();
            let options = index.options.unwrap_or_default();
            let is_ttl = options.name.as_deref() == Some("expires_at");
            let after = is_ttl.then_some(Duration::from_secs(60));
            assert_eq!(options.expire_after, after, "{:?}", options.name);
            assert_ne!(options.unique, Some(true), "only _id is unique");
        }
    }
}

#[tokio::test]
async fn the_server_collects_what_expired() {
    let place = Place::mongodb(mongod::standalone).await;
    let store = place.open().await;
    let database = database(&place).await;
    // Not to wait for the minute that an expired record stays.
    database
        .run_command(doc! {
            "collMod": "sessions",
            "index": { "name": "expires_at", "expireAfterSeconds": 0 },
        })
        .await
        .unwrap();
    let session = session_of(&open_id("oAlice"));
    store
        .create_session(&digest(1), &session, SHORT)
        .await
        .unwrap();
    store
        .create_session(&digest(2), &session, LONG)
        .await
        .unwrap();
    let sessions = database.collection::<Document>("sessions");
    eventually(|| async {
        let left = sessions.count_documents(doc! {}).await.unwrap();
        (left == 1).then_some(())
    })
    .await;
    assert_eq!(store.session(&digest(2)).await, Ok(Some(session)));
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_name_of_its_maker() {
    let place = Place::mongodb(mongod::standalone).await;
    place.open().await.close().await;
    database(&place)
        .await
        .collection::<Document>("meta")
        .update_one(
            doc! { "_id": "schema" },
            doc! { "$set": { "needs": 1000, "made_by": "offiaccount 99.1.0" } },
        )
        .await
        .unwrap();
    match open(&place.url).await.map(drop) {
        Err(StoreError::Unusable(text)) => assert!(text.contains("offiaccount 99.1.0"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_older_schema_is_raised_to_what_this_program_needs() {
    let place = Place::mongodb(mongod::standalone).await;
    let meta = database(&place).await.collection::<Document>("meta");
    meta.insert_one(doc! { "_id": "schema", "needs": 0, "made_by": "offiaccount 0.0.1" })
        .await
        .unwrap();
    place.open().await;
    let noted = meta
        .find_one(doc! { "_id": "schema" })
        .await
        .unwrap()
        .unwrap();
    assert!(noted.get_i32("needs").unwrap() > 0, "{noted}");
    assert_ne!(noted.get_str("made_by").unwrap(), "offiaccount 0.0.1");
}

#[tokio::test]
async fn versions_work_beside_each_other_while_the_newer_one_only_adds() {
    let place = Place::mongodb(mongod::replica_set).await;
    let database = database(&place).await;
    let alice = open_id("oAlice");
    let [running, other] = place.open_twice().await;
    let publish = async |store: &Arc<dyn Store>, generation| {
        let value = sealed(&format!("value {generation}"));
        let published = store
            .publish_credential(KEY, &owner(1), generation, &value, LONG)
            .await;
        assert_eq!(published, Ok(true));
    };
    publish(&running, 0).await;
    running
        .save_grant(&alice, None, &grant("snsapi_base", "a"))
        .await
        .unwrap();
    running
        .create_session(&digest(1), &session_of(&alice), LONG)
        .await
        .unwrap();
    running
        .create_sign_in(&digest(1), &sign_in("a"), LONG)
        .await
        .unwrap();
    conversations::answered(&running, 1).await;
    // What a newer one writes beside.
    for name in database.list_collection_names().await.unwrap() {
        let collection = database.collection::<Document>(&name);
        let added = doc! { "$set": { "of_a_newer_version": { "x": 7 } } };
        collection.update_many(doc! {}, added).await.unwrap();
    }
    let starting = place.open().await;
    let mut generation = 0;
    for store in [&running, &other, &starting] {
        generation += 1;
        assert_eq!(store.credential(KEY).await.unwrap().generation, generation);
        publish(store, generation).await;
        assert_eq!(store.user(&alice).await.unwrap().unwrap().open_id, alice);
        assert!(store.session(&digest(1)).await.unwrap().is_some());
        let number = u8::try_from(generation).unwrap() + 1;
        conversations::answered(store, number).await;
    }
    // And what it wrote is left alone.
    for name in [
        "credentials",
        "users",
        "sessions",
        "sign_ins",
        "conversations",
    ] {
        let collection = database.collection::<Document>(name);
        let found = collection.find_one(doc! {}).await.unwrap().unwrap();
        assert!(found.contains_key("of_a_newer_version"), "{name}: {found}");
    }
    // More than an addition: whoever runs goes on, and nobody of this version starts.
    let meta = database.collection::<Document>("meta");
    let needs = doc! { "$set": { "needs": 1000, "made_by": "offiaccount 99.1.0" } };
    meta.update_one(doc! { "_id": "schema" }, needs)
        .await
        .unwrap();
    publish(&running, generation + 1).await;
    assert!(open(&place.url).await.is_err());
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_to_mend() {
    let server = tokio::task::spawn_blocking(|| Mongod::start(&["--auth"]))
        .await
        .unwrap();
    let url = |user: &str| format!("mongodb://{user}@{}/wx?authSource=admin", server.host());
    let admin = Client::with_uri_str(format!("mongodb://{}/", server.host()))
        .await
        .unwrap()
        .database("admin");
    // The first user may be made from loopback without being one; he makes the second.
    let user = |name: &str, role: &str, database: &str| {
        let role = doc! { "role": role, "db": database };
        doc! { "createUser": name, "pwd": "canary", "roles": [role] }
    };
    admin
        .run_command(user("root", "root", "admin"))
        .await
        .unwrap();
    let admin = Client::with_uri_str(url("root:canary"))
        .await
        .unwrap()
        .database("admin");
    for (name, role) in [("writer", "readWrite"), ("reader", "read")] {
        admin.run_command(user(name, role, "wx")).await.unwrap();
    }

    let store = open(&url("writer:canary")).await.unwrap();
    assert_eq!(store.ping().await, Ok(()));
    // As another version might have made it.
    let other_life = doc! {
        "collMod": "sessions",
        "index": { "keyPattern": { "expires_at": 1 }, "expireAfterSeconds": 61 },
    };
    let database = admin.client().database("wx");
    database.run_command(other_life).await.unwrap();
    for (user, expected) in [
        ("reader:canary", "readWrite"),
        // The index below.
        ("writer:canary", "dbAdmin"),
        ("writer:canary2", "password"),
    ] {
        match open(&url(user)).await.map(drop) {
            Err(StoreError::Unusable(text)) => {
                assert!(text.contains(expected), "{text}");
                assert!(!text.contains("canary"), "{text}");
            }
            other => panic!("{user}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_froze_or_died_is_used_again_when_it_is_back() {
    let mut server = tokio::task::spawn_blocking(|| Mongod::start(&[]))
        .await
        .unwrap();
    let store = open(&format!("mongodb://{}/wx", server.host()))
        .await
        .unwrap();
    let create = |n| {
        let store = store.clone();
        async move {
            let alice = open_id("oAlice");
            store
                .create_session(&digest(n), &session_of(&alice), LONG)
                .await
        }
    };
    let session = |n| {
        let store = store.clone();
        async move { store.session(&digest(n)).await.map(|found| found.is_some()) }
    };
    assert_eq!(create(1).await, Ok(()));

    server.signal("STOP");
    let began = Instant::now();
    assert_eq!(create(2).await, Err(StoreError::Timeout));
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    server.signal("CONT");
    // What was sent takes effect, though nobody waits any more.
    eventually(|| async { (session(2).await == Ok(true)).then_some(()) }).await;

    server.signal("KILL");
    eventually(|| async { session(3).await.is_err().then_some(()) }).await;
    let _server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    eventually(|| async { session(1).await.is_ok().then_some(()) }).await;
    assert_eq!(session(2).await, Ok(true));
}
