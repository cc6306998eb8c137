//! A proxy on loopback that keeps every byte it passes on: the network traffic of an agent, both ways.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

/// A recording proxy; it ends with the process.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<Record>>>,
}

/// The bytes of one direction of one connection so far.
type Record = Arc<Mutex<Vec<u8>>>;

impl Wire {
    /// Listens on a free port and passes every connection on to `target`, an `http://…` address.
    pub fn to(target: &str) -> anyhow::Result<Self> {
        let target: SocketAddr = target.trim_start_matches("http://").parse().context("not an address")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let streams = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&streams);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A connection that cannot be made shows as an error of whoever asked for it.
                let Ok((client, server)) =
                    client.and_then(|client| Ok((client, TcpStream::connect(target)?)))
                else {
                    continue;
                };
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                for (from, to) in [(client, server), (server_too, client_too)] {
                    let record = Record::default();
                    held(&recorded).push(Arc::clone(&record));
                    std::thread::spawn(move || pass_on(from, to, &record));
                }
            }
        });
        Ok(Self { address, streams })
    }

    /// What to give to an agent in place of the target.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What went by so far, a stream for each direction of each connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        held(&self.streams).iter().map(|record| held(record).clone()).collect()
    }
}

/// Records first, so that nothing has arrived anywhere that is not recorded.
fn pass_on(mut from: TcpStream, mut to: TcpStream, record: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        held(record).extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side may have gone already.
    let _ = to.shutdown(Shutdown::Write);
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
