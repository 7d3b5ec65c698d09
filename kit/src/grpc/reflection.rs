//! Reflection that costs nothing until somebody asks: the descriptors are decoded
//! with the first call. They take half a megabyte, and few ask an agent.

use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body, server::NamedService, service::Routes};
use tonic_reflection::server::{Builder, Error};
use tower::Service;

/// A version of the reflection service.
pub(super) trait Version: 'static {
    const NAME: &'static str;
    fn build(builder: Builder<'static>) -> Result<Routes, Error>;
}

pub(super) enum V1 {}
pub(super) enum V1Alpha {}

impl Version for V1 {
    const NAME: &'static str = tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME;
    fn build(builder: Builder<'static>) -> Result<Routes, Error> {
        Ok(Routes::new(builder.build_v1()?))
    }
}

impl Version for V1Alpha {
    const NAME: &'static str = tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME;
    fn build(builder: Builder<'static>) -> Result<Routes, Error> {
        Ok(Routes::new(builder.build_v1alpha()?))
    }
}

/// The service of one version; clones share what was decoded.
pub(super) struct Reflection<V> {
    routes: Arc<OnceLock<Option<Routes>>>,
    version: PhantomData<fn() -> V>,
}

impl<V> Default for Reflection<V> {
    fn default() -> Self {
        Self { routes: Arc::default(), version: PhantomData }
    }
}

impl<V> Clone for Reflection<V> {
    fn clone(&self) -> Self {
        Self { routes: self.routes.clone(), version: PhantomData }
    }
}

impl<V: Version> NamedService for Reflection<V> {
    const NAME: &'static str = V::NAME;
}

impl<V: Version> Service<Request<Body>> for Reflection<V> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let routes = self.routes.get_or_init(|| {
            let builder = Builder::configure()
                .register_encoded_file_descriptor_set(contracts::DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            V::build(builder).inspect_err(|error| tracing::error!(%error, "no reflection")).ok()
        });
        match routes.clone() {
            // Routes are always ready (`Routes::poll_ready`).
            Some(mut routes) => Box::pin(routes.call(request)),
            None => Box::pin(async { Ok(Status::internal("the descriptors cannot be read").into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_reflection::server::Builder;

    use super::*;

    #[test]
    fn our_descriptors_can_be_served() {
        let builder = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(contracts::DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        assert!(V1::build(builder()).is_ok() && V1Alpha::build(builder()).is_ok());
    }

    #[tokio::test]
    async fn both_versions_answer_and_decode_once() {
        async fn status<V: Version>(reflection: &mut Reflection<V>) -> u16 {
            let uri = format!("/{}/ServerReflectionInfo", V::NAME);
            let request = Request::post(uri).header("content-type", "application/grpc").body(Body::empty());
            let answer = reflection.call(request.unwrap()).await.unwrap();
            // An unknown method would say so in the headers.
            assert!(answer.headers().get("grpc-status").is_none(), "{answer:?}");
            answer.status().as_u16()
        }
        let mut v1 = Reflection::<V1>::default();
        assert!(v1.routes.get().is_none(), "decoded before anybody asks");
        assert_eq!(status(&mut v1.clone()).await, 200);
        assert!(v1.routes.get().is_some(), "clones share it");
        assert_eq!(status(&mut v1).await, 200);
        assert_eq!(status(&mut Reflection::<V1Alpha>::default()).await, 200);
    }
}
