//! The onion: what stands before `next.run(ctx).await` runs on the way in, what stands after it on
//! the way out. An `Err` travels outward, so an outer layer can catch it.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::router::Router;
use super::{BotResult, Context};

/// A layer of the onion: any `async (Context, Next) -> BotResult`.
pub trait Middleware: Send + Sync + 'static {
    /// Runs the layer. It calls [`Next::run`] once to go on inward, or answers by itself.
    fn handle(&self, ctx: Context, next: Next) -> BoxFuture<'static, BotResult>;
}

impl<F, Fut> Middleware for F
where
    F: Fn(Context, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = BotResult> + Send + 'static,
{
    fn handle(&self, ctx: Context, next: Next) -> BoxFuture<'static, BotResult> {
        Box::pin(self(ctx, next))
    }
}

/// The rest of the onion. Taken by value, so that it runs at most once.
#[must_use = "without `next.run(ctx).await` nothing further in is reached"]
pub struct Next {
    chain: Chain,
    depth: usize,
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next")
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

impl Next {
    /// Runs the layers further in, and the router at the centre.
    ///
    /// # Errors
    ///
    /// What a layer or a handler returned.
    pub async fn run(self, ctx: Context) -> BotResult {
        self.chain.run_from(self.depth, ctx).await
    }
}

/// All layers and the router. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Chain(Arc<(Vec<Arc<dyn Middleware>>, Router)>);

impl Chain {
    pub(super) fn new(middleware: Vec<Arc<dyn Middleware>>, router: Router) -> Self {
        Self(Arc::new((middleware, router)))
    }

    /// Runs a message through the onion.
    pub(crate) async fn run(&self, ctx: Context) -> BotResult {
        self.run_from(0, ctx).await
    }

    async fn run_from(&self, depth: usize, ctx: Context) -> BotResult {
        let (middleware, router) = &*self.0;
        match middleware.get(depth) {
            Some(layer) => {
                layer
                    .handle(
                        ctx,
                        Next {
                            chain: self.clone(),
                            depth: depth + 1,
                        },
                    )
                    .await
            }
            None => router.answer(ctx).await,
        }
    }
}
