//! What the verbs of `certeus log` see; nothing here writes a byte.

use std::os::fd::AsFd;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::reader::{hash_of, raise};
use crate::board::{BOARD_PAGES, Board, PAGE_BYTES, PAGE_LOG};
use crate::log::plan::{Change, plan};
use crate::log::recovery::{FollowerPosition, Gap, Settings};
use crate::reader::LogReader;
use crate::reader::files::{Keys, list};
use crate::reader::inspect::{GroupView, Place};
use crate::reader::segment::{active_headers, path_of};

/// Every number of the log's directory: what its segment and its sidecar are.
#[pyfunction]
pub fn log_files(py: Python<'_>, log_dir: PathBuf) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let listed = py.detach(|| list(&log_dir)).map_err(raise)?;
    let mut files = Vec::new();
    for one in &listed {
        let dict = PyDict::new(py);
        dict.set_item("segment_no", one.segment_no)?;
        dict.set_item("state", one.state.word())?;
        dict.set_item("file_bytes", one.file_bytes)?;
        dict.set_item("sidecar", one.sidecar.word())?;
        dict.set_item("sidecar_bytes", one.sidecar_bytes)?;
        let known = match &one.sidecar {
            Keys::Whole(sidecar) => {
                Some((sidecar.keys.len(), sidecar.first_seq, sidecar.next_seq.saturating_sub(1)))
            }
            _ => None,
        };
        let (keys, first_seq, last_seq) = known.unwrap_or_default();
        dict.set_item("keys", keys)?;
        dict.set_item("first_seq", first_seq)?;
        dict.set_item("last_seq", last_seq)?;
        files.push(dict);
    }
    Ok(files)
}

type Begin<'py> = (u64, u64, u64, u64, Bound<'py, PyBytes>);

/// Each segment with a proper header: its bytes, and where the log stood before it.
#[pyfunction]
pub fn log_begins(py: Python<'_>, log_dir: PathBuf) -> PyResult<Vec<Begin<'_>>> {
    let headers = py.detach(|| active_headers(&log_dir)).map_err(raise)?;
    let mut begins = Vec::new();
    for header in &headers {
        let bytes = match std::fs::metadata(path_of(&log_dir, header.segment_no)) {
            Ok(found) => found.len(),
            // It was trimmed while we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let root = PyBytes::new(py, &header.before_root);
        let (group, next_seq) = (header.before_group, header.before_next_seq);
        begins.push((header.segment_no, bytes, group, next_seq, root));
    }
    Ok(begins)
}

/// The group that holds `seq`, with the place of each of its records.
#[pyfunction]
#[pyo3(signature = (log_dir, seq, log_key=None))]
pub fn log_group_of<'py>(
    py: Python<'py>,
    log_dir: PathBuf,
    seq: u64,
    log_key: Option<&[u8]>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let key = log_key.map(hash_of).transpose()?;
    let view = py.detach(|| LogReader::new(&log_dir).group_of(seq, key.as_ref()));
    view.map_err(raise)?.map(|view| group_dict(py, &view)).transpose()
}

fn group_dict<'py>(py: Python<'py>, view: &GroupView) -> PyResult<Bound<'py, PyDict>> {
    let header = &view.header;
    let dict = PyDict::new(py);
    for (name, value) in [
        ("segment_no", view.segment_no),
        ("offset", view.offset),
        ("bytes", header.group_bytes()),
        ("group", header.group),
        ("first_seq", header.first_seq),
        ("last_seq", header.next_seq() - 1),
        ("recorded_at_ns", header.recorded_at_ns),
        ("epoch", header.epoch),
        ("entries", view.entries as u64),
    ] {
        dict.set_item(name, value)?;
    }
    dict.set_item("chain", PyBytes::new(py, &header.chain))?;
    dict.set_item("hash", PyBytes::new(py, &header.hash()))?;
    dict.set_item("root", PyBytes::new(py, &header.root))?;
    dict.set_item("root_matches", view.root_matches)?;
    let records = PyList::empty(py);
    for place in &view.places {
        records.append(place_dict(py, place)?)?;
    }
    dict.set_item("records", records)?;
    Ok(dict)
}

fn place_dict<'py>(py: Python<'py>, place: &Place) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("seq", place.seq)?;
    dict.set_item("offset", place.offset)?;
    dict.set_item("bytes", place.bytes)?;
    dict.set_item("uid", place.uid)?;
    let leaf = place.keyed.as_ref().map(|keyed| PyBytes::new(py, &keyed.leaf));
    dict.set_item("leaf", leaf)?;
    let dedup = place.keyed.as_ref().and_then(|keyed| keyed.dedup);
    dict.set_item("dedup_key", dedup.map(|(key, _)| PyBytes::new(py, &key)))?;
    dict.set_item("dedup_digest", dedup.map(|(_, digest)| digest))?;
    Ok(dict)
}

/// What a start would do; nothing is changed.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // the settings of a recovery, by name
#[pyo3(signature = (log_dir, quarantine_dir, log_key, dedup_keys, dedup_producers, *,
    follower_group, follower_seq, follower_root))]
pub fn log_plan<'py>(
    py: Python<'py>,
    log_dir: PathBuf,
    quarantine_dir: PathBuf,
    log_key: [u8; 32],
    dedup_keys: usize,
    dedup_producers: usize,
    follower_group: u64,
    follower_seq: u64,
    follower_root: [u8; 32],
) -> PyResult<Bound<'py, PyDict>> {
    let follower =
        FollowerPosition { group: follower_group, seq: follower_seq, root: follower_root };
    let served = None;
    let settings =
        Settings { log_key, dedup_keys, dedup_producers, follower, quarantine_dir, served };
    let board = memfd_create("certeus-plan", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    ftruncate(&board, (BOARD_PAGES * PAGE_BYTES) as u64).map_err(std::io::Error::from)?;
    let board = Board::map(board.as_fd()).map_err(std::io::Error::from)?;
    let page = board.page(PAGE_LOG);
    let (found, changes) = py.detach(|| plan(&log_dir, &settings, page))?;
    let dict = PyDict::new(py);
    dict.set_item("label", found.label)?;
    dict.set_item("torn", found.torn)?;
    dict.set_item("next_seq", found.position.next_seq)?;
    dict.set_item("segment_no", found.segment_no)?;
    let older: Vec<_> = found.older.iter().filter(|(_, label)| *label != "sealed").collect();
    dict.set_item("older", PyList::new(py, older)?)?;
    let gaps = found.gaps.iter().map(Gap::from);
    let gaps = gaps.map(|gap| (gap.first_seq, gap.last_seq, gap.reason));
    dict.set_item("gaps", PyList::new(py, gaps)?)?;
    let told = PyList::empty(py);
    for change in &changes {
        let text = |path: &PathBuf| path.display().to_string();
        told.append(match change {
            Change::Write(path) => ("write", text(path), None),
            Change::Rename(from, to) => ("rename", text(from), Some(text(to))),
            Change::Unlink(path) => ("unlink", text(path), None),
        })?;
    }
    dict.set_item("changes", told)?;
    Ok(dict)
}
