//! `recv_datagrams` for Python: what a socket holds, by runs of one sender.

use std::os::fd::BorrowedFd;

use pyo3::prelude::*;

use crate::datagrams::{Most, Sender, receive};

type Run = (Option<(u32, u32)>, Datagrams);

#[pyfunction]
#[pyo3(signature = (fd, buffer, count_max, bytes_max))]
pub fn recv_datagrams(
    fd: i32,
    buffer: &mut DatagramBuffer,
    count_max: usize,
    bytes_max: usize,
) -> PyResult<(Vec<Run>, usize)> {
    // SAFETY: the caller has the socket open for the length of the call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let (mut runs, mut cut) = (Vec::<Run>::new(), 0);
    let most = Most { count: count_max, bytes: bytes_max };
    receive(socket, &mut buffer.bytes, most, |sender, datagram| {
        let Some(datagram) = datagram else {
            cut += 1;
            return;
        };
        let sender = sender.map(|Sender { uid, gid }| (uid, gid));
        if runs.last().is_none_or(|(of, _)| *of != sender) {
            runs.push((sender, Datagrams::default()));
        }
        let (_, run) = runs.last_mut().expect("one was pushed where there was none");
        run.push(datagram);
    })
    .map_err(std::io::Error::from)?;
    Ok((runs, cut))
}

/// What one sender sent, one behind the other: no object of Python's for each.
#[pyclass(module = "certeusd._native", frozen)]
#[derive(Default)]
pub struct Datagrams {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Datagrams {
    fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }
}

#[pymethods]
impl Datagrams {
    #[new]
    fn new(datagrams: Vec<Vec<u8>>) -> Self {
        let mut made = Self::default();
        datagrams.iter().for_each(|datagram| made.push(datagram));
        made
    }

    fn __len__(&self) -> usize {
        self.ends.len()
    }
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
