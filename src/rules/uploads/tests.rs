use std::path::Path;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::store::StoreError;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store whose clock stands still.
#[derive(Default)]
struct Shelf(Mutex<HashMap<Digest, (String, Duration)>>);

#[async_trait]
impl UploadStore for Shelf {
    async fn upload(&self, file: &Digest) -> Result<Option<(String, Duration)>, StoreError> {
        Ok(self.0.lock().unwrap().get(file).cloned())
    }

    async fn save_upload(
        &self,
        file: &Digest,
        media_id: &str,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let upload = (media_id.to_owned(), lifetime);
        self.0.lock().unwrap().insert(*file, upload);
        Ok(())
    }
}

/// A platform that numbers what it is given.
struct Platform {
    uploads: AtomicUsize,
    names: Mutex<Vec<String>>,
    /// How far its clock is ahead.
    ahead_s: AtomicI64,
    refusal: Mutex<Option<ApiError>>,
    gate: Semaphore,
}

impl Platform {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            uploads: AtomicUsize::new(0),
            names: Mutex::default(),
            ahead_s: AtomicI64::new(0),
            refusal: Mutex::default(),
            gate: Semaphore::new(1000),
        })
    }

    fn refuse(&self, errcode: Option<i64>) {
        let errmsg = "no".to_owned();
        *self.refusal.lock().unwrap() =
            errcode.map(|errcode| ApiError::Refused { errcode, errmsg });
    }

    async fn upload(&self, name: String) -> Result<UploadedMedia, ApiError> {
        self.gate.acquire().await.unwrap().forget();
        let number = self.uploads.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(error) = self.refusal.lock().unwrap().clone() {
            return Err(error);
        }
        self.names.lock().unwrap().push(name);
        let now_s = unix_seconds() + self.ahead_s.load(Ordering::SeqCst);
        Ok(UploadedMedia {
            media_id: format!("m{number}"),
            created_at: now_s.cast_unsigned(),
        })
    }

    fn uploads(&self) -> usize {
        self.uploads.load(Ordering::SeqCst)
    }
}

fn uploads(platform: &Arc<Platform>, store: &Arc<Shelf>) -> Uploads {
    let platform = Arc::clone(platform);
    let upload: Upload = Arc::new(move |_, name, _| {
        let platform = Arc::clone(&platform);
        Box::pin(async move { platform.upload(name).await })
    });
    let store: Arc<Shelf> = Arc::clone(store);
    Uploads::through(upload, store, Arc::default(), TaskTracker::new())
}

fn file(kind: MediaKind, name: &str) -> Arc<MediaFile> {
    let file = MediaFile::read(kind, name, Path::new("tests/fixtures/media")).unwrap();
    Arc::new(file)
}

fn cat() -> Arc<MediaFile> {
    file(MediaKind::Image, "cat.jpg")
}

#[tokio::test]
async fn a_file_is_uploaded_once_here_and_by_nobody_after() {
    let (platform, store) = (Platform::new(), Arc::default());
    let here = uploads(&platform, &store);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    let elsewhere = uploads(&platform, &store);
    assert_eq!(elsewhere.media_id(&cat()).await.unwrap(), "m1");
    assert_eq!(platform.uploads(), 1);
    assert_eq!(*platform.names.lock().unwrap(), ["cat.jpg"]);
}

#[tokio::test]
async fn many_messages_share_one_upload() {
    let (platform, store) = (Platform::new(), Arc::default());
    platform.gate.forget_permits(1000);
    let here = uploads(&platform, &store);
    let file = cat();
    let asking: Vec<_> = (0..50).map(|_| here.media_id(&file)).collect();
    let opening = async { platform.gate.add_permits(50) };
    let (ids, ()) = tokio::join!(futures_util::future::join_all(asking), opening);
    assert!(ids.iter().all(|id| id.as_deref().unwrap() == "m1"));
    assert_eq!(platform.uploads(), 1);
}

#[tokio::test]
async fn an_upload_goes_on_when_nobody_waits_for_it() {
    let (platform, store) = (Platform::new(), Arc::default());
    platform.gate.forget_permits(1000);
    let here = uploads(&platform, &store);
    let file = cat();
    {
        let mut asking = Box::pin(here.media_id(&file));
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(asking.poll_unpin(cx)));
        assert!(once.await.is_pending());
    }
    platform.gate.add_permits(1);
    here.0.tasks.close();
    here.0.tasks.wait().await;
    assert_eq!(platform.uploads(), 1);
    assert_eq!(here.media_id(&file).await.unwrap(), "m1");
}

#[tokio::test]
async fn the_same_bytes_are_another_upload_as_another_kind() {
    let (platform, store) = (Platform::new(), Arc::default());
    let here = uploads(&platform, &store);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    let thumb = file(MediaKind::Thumb, "cat.jpg");
    assert_eq!(here.media_id(&thumb).await.unwrap(), "m2");
}

#[tokio::test]
async fn what_ends_soon_is_uploaded_again_while_it_is_in_use() {
    let (platform, store) = (Platform::new(), Arc::<Shelf>::default());
    let left = RENEW_BELOW - Duration::from_secs(60);
    store.save_upload(&cat().digest, "old", left).await.unwrap();
    let here = uploads(&platform, &store);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    assert_eq!(store.upload(&cat().digest).await.unwrap().unwrap().0, "m1");
    // Where it can't be, the old one serves.
    store.save_upload(&cat().digest, "old", left).await.unwrap();
    platform.refuse(Some(-1));
    let here = uploads(&platform, &store);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "old");
    platform.refuse(None);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "old", "meanwhile");
    here.0.tasks.close();
    here.0.tasks.wait().await;
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m3");
}

#[tokio::test]
async fn what_is_nearly_over_is_given_to_nobody() {
    let (platform, store) = (Platform::new(), Arc::<Shelf>::default());
    let left = TOO_OLD_BELOW - Duration::from_secs(1);
    store.save_upload(&cat().digest, "old", left).await.unwrap();
    platform.refuse(Some(-1));
    let here = uploads(&platform, &store);
    let error = here.media_id(&cat()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("`cat.jpg` can't be uploaded"),
        "{error}"
    );
}

#[tokio::test]
async fn a_platform_whose_clock_jumped_is_believed() {
    let (platform, store) = (Platform::new(), Arc::<Shelf>::default());
    let here = uploads(&platform, &store);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    platform.ahead_s.store(3 * 24 * 3600, Ordering::SeqCst);
    assert_eq!(
        here.media_id(&cat()).await.unwrap(),
        "m1",
        "nothing told yet"
    );
    let dog = file(MediaKind::Image, "dog.png");
    assert_eq!(here.media_id(&dog).await.unwrap(), "m2");
    // The store, by its own clock, still has the dead one.
    assert!(store.upload(&cat().digest).await.unwrap().unwrap().1 > DAY);
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m3");
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m3");
    assert_eq!(platform.uploads(), 3);
}

#[tokio::test]
async fn an_id_that_was_refused_is_replaced() {
    let (platform, store) = (Platform::new(), Arc::default());
    let here = uploads(&platform, &store);
    assert_eq!(here.renew("m1").await, None, "not a file of ours");
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m1");
    assert_eq!(here.renew("m1").await.unwrap(), "m2");
    assert_eq!(here.media_id(&cat()).await.unwrap(), "m2");
    assert_eq!(here.renew("m1").await.unwrap(), "m2", "replaced already");
    assert_eq!(platform.uploads(), 2);
    platform.refuse(Some(48001));
    assert_eq!(here.renew("m2").await, None);
}

#[tokio::test]
async fn a_refusal_that_waiting_will_not_mend_is_remembered() {
    let (platform, store) = (Platform::new(), Arc::default());
    let here = uploads(&platform, &store);
    platform.refuse(Some(48001));
    for _ in 0..5 {
        let error = here.media_id(&cat()).await.unwrap_err().to_string();
        assert!(error.contains("接口权限"), "what to do: {error}");
    }
    assert_eq!(platform.uploads(), 1);
    let dog = file(MediaKind::Image, "dog.png");
    platform.refuse(Some(-1));
    here.media_id(&dog).await.unwrap_err();
    platform.refuse(None);
    assert_eq!(here.media_id(&dog).await.unwrap(), "m3");
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_by_its_name() {
    let (platform, store) = (Platform::new(), Arc::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("图.jpg");
    std::fs::copy("tests/fixtures/media/cat.jpg", &path).unwrap();
    let read = MediaFile::read(MediaKind::Image, "图.jpg", folder.path()).unwrap();
    let read = Arc::new(read);
    std::fs::remove_file(&path).unwrap();
    let here = uploads(&platform, &store);
    let error = here.media_id(&read).await.unwrap_err().to_string();
    assert!(
        error.starts_with("`图.jpg` can't be uploaded: No such file"),
        "{error}"
    );
    std::fs::copy("tests/fixtures/media/cat.jpg", &path).unwrap();
    assert_eq!(here.media_id(&read).await.unwrap(), "m1");
    assert_eq!(
        *platform.names.lock().unwrap(),
        ["image.jpg"],
        "a name for the wire"
    );
}
