//! The HTTP interface. `docs/FORMAT.md` describes it for those who write the other side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use lockgate_signing::carriage;
use lockgate_signing::deletion::STATEMENTS_CONTENT_TYPE;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::Message as _;
use lockgate_signing::receipt::Receipt;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::collection::Collected;
use crate::intake::{Answer, Intake};
use crate::limits::Limits;
use crate::problem::Problem;
use crate::reason::Reason;
use crate::upload::{drain, receive, receive_whole};

#[derive(Clone)]
struct Service {
    intake: Intake,
    limits: Arc<Limits>,
    headers: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    collections: Arc<Semaphore>,
}

/// The service's addresses.
pub fn router(intake: Intake, limits: &Arc<Limits>) -> Router {
    let service = Service {
        intake,
        limits: Arc::clone(limits),
        headers: Arc::new(Semaphore::new(limits.headers_max as usize)),
        uploads: Arc::new(Semaphore::new(limits.uploads_max as usize)),
        collections: Arc::new(Semaphore::new(limits.collections_max as usize)),
    };
    Router::new()
        .route("/v1/enrolments", post(enrol))
        .route("/v1/bundles", post(submit))
        .route("/v1/blocks/{digest}", put(store))
        .route("/v1/collections", post(collect))
        .route("/v1/deletions", post(take_deletion))
        .route("/v1/deletions/{bundle}", get(deletions))
        .route("/v1/health", get(health))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(Arc::clone(limits), observe))
        .with_state(service)
}

/// Limits a request's time, and logs what became of it: never a body.
async fn observe(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let (method, started) = (request.method().clone(), Instant::now());
    let limit = Duration::from_secs(limits.request_timeout_s);
    let response = match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::Timeout.into_response(),
    };
    let (status, elapsed_us) = (response.status().as_u16(), started.elapsed().as_micros());
    tracing::debug!(%method, status, elapsed_us, "request");
    response
}

async fn enrol(State(service): State<Service>, mut body: Body) -> Result<Response, Problem> {
    let _permit = turn(&service.headers, &service.limits).await?;
    let request = whole(&service, &mut body).await?;
    Ok(Json(service.intake.enrol(request).await?).into_response())
}

async fn submit(State(service): State<Service>, mut body: Body) -> Result<Response, Problem> {
    let _permit = turn(&service.headers, &service.limits).await?;
    let signed_header = whole(&service, &mut body).await?;
    Ok(match service.intake.submit(signed_header).await? {
        Answer::Receipt(receipt) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static(Receipt::CONTENT_TYPE))], receipt)
                .into_response()
        }
        Answer::Missing(missing) => {
            let missing: Vec<String> = missing.into_iter().map(Digest::to_hex).collect();
            (StatusCode::ACCEPTED, Json(serde_json::json!({ "missing": missing }))).into_response()
        }
    })
}

async fn store(
    State(service): State<Service>,
    Path(digest): Path<String>,
    mut body: Body,
) -> Result<StatusCode, Problem> {
    let stored = match Digest::from_hex(&digest) {
        Ok(digest) => match turn(&service.uploads, &service.limits).await {
            Ok(permit) => receive(&service.intake, &service.limits, permit, digest, &mut body).await,
            Err(problem) => Err(problem),
        },
        Err(_) => Err(Reason::BlockAddress.into()),
    };
    if matches!(stored, Err(Problem::Rejected(_) | Problem::DiskFull)) {
        drain(&mut body, &service.limits).await;
    }
    stored.map(|()| StatusCode::NO_CONTENT)
}

async fn collect(State(service): State<Service>, mut body: Body) -> Result<Response, Problem> {
    let request = whole(&service, &mut body).await?;
    let permit = turn(&service.collections, &service.limits).await?;
    Ok(match service.intake.collect(request, &service.limits, permit).await? {
        Collected::List(bundles) => Json(serde_json::json!({ "bundles": bundles })).into_response(),
        Collected::Bundle(pieces) => {
            let next = async |mut pieces: Receiver<_>| Some((pieces.recv().await?, pieces));
            let body = Body::from_stream(futures::stream::unfold(pieces, next));
            let content_type = HeaderValue::from_static(carriage::CONTENT_TYPE);
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
    })
}

async fn take_deletion(State(service): State<Service>, mut body: Body) -> Result<StatusCode, Problem> {
    let _permit = turn(&service.headers, &service.limits).await?;
    let statement = whole(&service, &mut body).await?;
    service.intake.take_deletion(statement).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn deletions(State(service): State<Service>, Path(bundle): Path<String>) -> Result<Response, Problem> {
    let bundle = bundle.parse().map_err(|_| Reason::UnknownBundle)?;
    let statements = service.intake.deletions(bundle).await?;
    let content_type = HeaderValue::from_static(STATEMENTS_CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, content_type)], statements).into_response())
}

async fn health(State(service): State<Service>) -> Json<serde_json::Value> {
    let used = |semaphore: &Semaphore, all: u32| all as usize - semaphore.available_permits();
    Json(serde_json::json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uploads": used(&service.uploads, service.limits.uploads_max),
        "headers": used(&service.headers, service.limits.headers_max),
    }))
}

async fn whole(service: &Service, body: &mut Body) -> Result<bytes::Bytes, Problem> {
    let received = receive_whole(body, &service.limits, Limits::HEADER_BYTES_MAX).await;
    if received.is_err() {
        drain(body, &service.limits).await;
    }
    received
}

/// Waits for a turn, for a while.
async fn turn(semaphore: &Arc<Semaphore>, limits: &Limits) -> Result<OwnedSemaphorePermit, Problem> {
    match tokio::time::timeout(limits.wait(), Arc::clone(semaphore).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(Problem::Busy),
    }
}
