//! `recv_datagrams` for Python: what a socket holds, by runs of one sender.

use std::os::fd::BorrowedFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::datagrams::{Most, Sender, receive};

type Run<'py> = (Option<(u32, u32)>, Vec<Bound<'py, PyBytes>>);

#[pyfunction]
#[pyo3(signature = (fd, buffer, count_max, bytes_max))]
pub fn recv_datagrams<'py>(
    py: Python<'py>,
    fd: i32,
    buffer: &mut DatagramBuffer,
    count_max: usize,
    bytes_max: usize,
) -> PyResult<(Vec<Run<'py>>, usize)> {
    // SAFETY: the caller has the socket open for the length of the call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let (mut runs, mut cut) = (Vec::<Run<'py>>::new(), 0);
    let most = Most { count: count_max, bytes: bytes_max };
    receive(socket, &mut buffer.bytes, most, |sender, datagram| {
        let Some(datagram) = datagram else {
            cut += 1;
            return;
        };
        let datagram = PyBytes::new(py, datagram);
        let sender = sender.map(|Sender { uid, gid }| (uid, gid));
        match runs.last_mut() {
            Some((of, run)) if *of == sender => run.push(datagram),
            _ => runs.push((sender, vec![datagram])),
        }
    })
    .map_err(std::io::Error::from)?;
    Ok((runs, cut))
}

/// Memory for the datagram that is being received.
#[pyclass(module = "certeusd._native")]
pub struct DatagramBuffer {
    bytes: Box<[u8]>,
}

#[pymethods]
impl DatagramBuffer {
    #[new]
    fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes].into() }
    }
}
