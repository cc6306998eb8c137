//! The HTTP interface. `docs/KEYHOLDER.md` describes it for those who write the other side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use lockgate_signing::evaluation::EvaluationAnswer;
use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::evaluate::Keyholder;
use crate::problem::Problem;
use crate::reason::Reason;

#[derive(Clone)]
struct Service {
    keyholder: Keyholder,
    limits: Limits,
    evaluations: Arc<Semaphore>,
}

/// The service's addresses.
pub fn router(keyholder: Keyholder, limits: &Limits) -> Router {
    let service = Service {
        keyholder,
        limits: limits.clone(),
        evaluations: Arc::new(Semaphore::new(limits.evaluations_max as usize)),
    };
    Router::new()
        .route("/v1/evaluations", post(evaluate))
        .route("/v1/health", get(health))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(middleware::from_fn(observe))
        .with_state(service)
}

/// Logs what became of a request: never a body.
async fn observe(request: Request, next: Next) -> Response {
    let (method, started) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    let (status, elapsed_us) = (response.status().as_u16(), started.elapsed().as_micros());
    tracing::debug!(%method, status, elapsed_us, "request");
    response
}

async fn evaluate(State(service): State<Service>, body: Body) -> Result<Response, Problem> {
    let limits = &service.limits;
    // Before a turn is taken: a body that comes slowly holds a connection and nothing else.
    let received = receive(body);
    let bytes = match tokio::time::timeout(Duration::from_secs(limits.request_timeout_s), received).await {
        Ok(received) => received?,
        Err(_) => return Err(Problem::Timeout),
    };
    let turn = Arc::clone(&service.evaluations).acquire_owned();
    let Ok(Ok(turn)) = tokio::time::timeout(Duration::from_secs(limits.wait_s), turn).await else {
        return Err(Problem::Busy);
    };
    // The work goes on when its asker goes away, and the turn with it: who asks again and again gets no more cores.
    let answer = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        service.keyholder.evaluate(&bytes)
    });
    let answer = answer.await.map_err(|error| Problem::Internal(error.into()))??;
    let content_type = HeaderValue::from_static(EvaluationAnswer::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, content_type)], answer).into_response())
}

/// What is read and dropped of a request that is too large, so that its sender gets to read the answer.
const DRAIN_BYTES_MAX: usize = 4 << 20;

async fn receive(mut body: Body) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut received) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::Interrupted)?.into_data() else { continue };
        received += data.len();
        if received > DRAIN_BYTES_MAX {
            break;
        }
        if received <= Limits::REQUEST_BYTES_MAX {
            bytes.extend_from_slice(&data);
        }
    }
    if received > Limits::REQUEST_BYTES_MAX { Err(Reason::TooLarge.into()) } else { Ok(bytes) }
}

async fn health(State(service): State<Service>) -> Json<serde_json::Value> {
    let busy = service.limits.evaluations_max as usize - service.evaluations.available_permits();
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "evaluations": busy }))
}
