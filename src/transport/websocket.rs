//! `GET /ws`: a client over WebSocket (RFC 6455).

use std::time::Duration;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        RawQuery, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::HeaderMap,
    response::Response,
};
use futures_util::SinkExt;
use tungstenite::error::{CapacityError, Error};

use super::{Admission, Peer, SubscriptionQuery};
use crate::{
    connection::{Connection, Outgoing},
    metrics::TransportKind,
    protocol::{Disconnect, Frame, MAX_INCOMING},
    rejection::Rejection,
};

/// tungstenite fills its whole read buffer with zeros before every read, so a small one is a fast one; clients
/// send next to nothing.
const READ_BUFFER: usize = 1024;

/// Frames are gathered up to here until they are flushed: a heartbeat and its Ping leave in one write.
const WRITE_BUFFER: usize = 1024;

/// How long a client has to answer a close frame, before the socket is closed under it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes the handshake. What a page must be able to tell apart is said by a close code after it, since a browser
/// shows a page nothing of a handshake that failed.
pub async fn handshake(
    State(admission): State<Admission>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Rejection> {
    let upgrade = upgrade.map_err(|_| Rejection::UpgradeRequired)?;
    let upgrade = upgrade
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
    if admission.connections.shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    let permit = admission.permit(peer, &headers)?;
    if !admission.allows_origin(&headers) {
        admission.connections.metrics.refused("origin");
        return Ok(upgrade.on_upgrade(move |socket| refuse(socket, permit, Disconnect::OriginNotAllowed)));
    }
    let SubscriptionQuery { regions, since } = SubscriptionQuery::parse(query.as_deref());
    let Ok(regions) = regions else {
        admission.connections.metrics.refused("invalid_regions");
        return Ok(upgrade.on_upgrade(move |socket| refuse(socket, permit, Disconnect::BadRequest)));
    };
    let Admission { connections, .. } = admission;
    Ok(upgrade.on_upgrade(async move |socket| {
        let connection = connections.open(TransportKind::websocket, regions, since.as_deref(), permit);
        serve(socket, connection).await;
    }))
}

/// Closes for good; the permit is held until the client is gone.
async fn refuse<P>(socket: WebSocket, permit: P, disconnect: Disconnect) {
    close(socket, disconnect).await;
    drop(permit);
}

/// Runs the connection to its end. A write that makes no progress fails by the server's socket, so none is timed here.
async fn serve(mut socket: WebSocket, mut connection: Connection) {
    loop {
        tokio::select! {
            incoming = socket.recv() => match received(incoming, &mut connection) {
                Ok(Received::Nothing) => {}
                Ok(Received::Answer(frame)) => {
                    if socket.send(text(&frame)).await.is_err() {
                        return;
                    }
                }
                Ok(Received::End) => return,
                Err(disconnect) => {
                    connection.ended_by(disconnect);
                    return close(socket, disconnect).await;
                }
            },
            outgoing = connection.next() => {
                let sent = match outgoing {
                    Outgoing::Message(frame) => socket.send(text(&frame)).await,
                    Outgoing::Heartbeat(_) if connection.is_silent() => return,
                    Outgoing::Heartbeat(frame) => {
                        connection.pinged();
                        beat(&mut socket, &frame).await
                    }
                    Outgoing::Close(disconnect) => return close(socket, disconnect).await,
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    }
}

enum Received {
    Nothing,
    Answer(Frame),
    End,
}

fn received(
    incoming: Option<Result<Message, axum::Error>>,
    connection: &mut Connection,
) -> Result<Received, Disconnect> {
    match incoming {
        Some(Ok(Message::Text(text))) => Ok(connection.received(&text)?.map_or(Received::Nothing, Received::Answer)),
        Some(Ok(Message::Binary(_))) => Err(Disconnect::Binary),
        Some(Ok(Message::Pong(_))) => connection.pong().map(|()| Received::Nothing),
        Some(Ok(Message::Ping(_))) => connection.sign_of_life().map(|()| Received::Nothing),
        // The answer to a close frame is sent by the next read, which then ends.
        Some(Ok(Message::Close(_))) => Ok(Received::Nothing),
        Some(Err(error)) => match error.into_inner().downcast_ref::<Error>() {
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => Err(Disconnect::TooBig),
            Some(Error::Utf8(_) | Error::Protocol(_)) => Err(Disconnect::ProtocolError),
            _ => Ok(Received::End),
        },
        None => Ok(Received::End),
    }
}

/// A heartbeat and a Ping, in one write.
async fn beat(socket: &mut WebSocket, frame: &Frame) -> Result<(), axum::Error> {
    socket.feed(text(frame)).await?;
    socket.send(Message::Ping(Bytes::new())).await
}

fn text(frame: &Frame) -> Message {
    Message::Text(Utf8Bytes::try_from(frame.json()).expect("JSON is UTF-8"))
}

/// Says why, then waits for the client to answer: closing at once could destroy the close frame on its way.
async fn close(mut socket: WebSocket, disconnect: Disconnect) {
    let frame = CloseFrame { code: disconnect.code(), reason: Utf8Bytes::from_static(disconnect.reason()) };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
}
