//! `DoorEncoder` and `Encoded` for Python: a block in, a buffer of payloads out.

use certeus_ipc::layout::RING_BYTES_MAX;
use certeus_ipc::record::{Attributes, FLAG_OPAQUE, Tag};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::datagrams::Datagrams;
use super::otlp::OtlpLogs;
use crate::door::cloudevents::{self, NoSuchBody};
use crate::door::lines::{self, Common};
use crate::door::syslog::{self, NoSuchFrame};
use crate::door::{Encoder, Refusal, Rules};
use crate::validate::attributes::is_json_content_type;
use crate::worker::Sources;

/// Input from which on it is worth letting other threads run.
pub const DETACH_BYTES_MIN: usize = 4096;
const NO_DATA: &[u8] = b"null";

#[pyclass(module = "certeusd._native", frozen)]
pub struct DoorEncoder {
    pub(super) rules: Rules,
}

#[pyclass(module = "certeusd._native", frozen, get_all)]
pub struct Encoded {
    payloads: Py<PyBytes>,
    count: usize,
    seen: usize,
    refused: Vec<(usize, String)>,
    consumed: usize,
}

#[pymethods]
impl DoorEncoder {
    #[new]
    fn new(event_bytes_max: usize, source: String, sources: Vec<String>) -> PyResult<Self> {
        if event_bytes_max as u64 > RING_BYTES_MAX {
            return Err(PyValueError::new_err(format!(
                "cannot make an encoder: event_bytes_max is {event_bytes_max}; give it at most \
                 {RING_BYTES_MAX}"
            )));
        }
        let rules =
            Rules { event_bytes_max, source: source.into_bytes(), sources: Sources::new(sources) };
        Ok(Self { rules })
    }

    #[getter]
    fn payload_bytes_max(&self) -> usize {
        self.rules.payload_bytes_max()
    }

    #[pyo3(signature = (block, r#type, source=None, id_field=None, subject_field=None,
                        r#final=false))]
    #[allow(clippy::too_many_arguments)] // by name in Python
    fn data_lines(
        &self,
        py: Python<'_>,
        block: &[u8],
        r#type: &str,
        source: Option<&str>,
        id_field: Option<&str>,
        subject_field: Option<&str>,
        r#final: bool,
    ) -> Encoded {
        let common = Common { r#type, source, id_field, subject_field };
        self.encode(py, block.len(), |encoder| lines::data(encoder, block, common, r#final))
    }

    #[pyo3(signature = (block, r#final=false))]
    fn cloudevents_lines(&self, py: Python<'_>, block: &[u8], r#final: bool) -> Encoded {
        self.encode(py, block.len(), |encoder| cloudevents::lines(encoder, block, r#final))
    }

    #[pyo3(signature = (body, begin=0))]
    fn cloudevents_batch(&self, py: Python<'_>, body: &[u8], begin: usize) -> PyResult<Encoded> {
        let part = |encoder: &mut Encoder<'_>| cloudevents::batch(encoder, body, begin);
        let bytes = body.len().min(cloudevents::PART_BYTES);
        self.encode_body(py, bytes, part, "the batch", "a JSON array of events")
    }

    fn otlp_logs(&self, body: &Bound<'_, PyBytes>, json: bool) -> PyResult<OtlpLogs> {
        OtlpLogs::new(self.rules.clone(), body, json)
    }

    fn cloudevent(&self, py: Python<'_>, body: &[u8]) -> PyResult<Encoded> {
        let whole = |encoder: &mut Encoder<'_>| cloudevents::event(encoder, body);
        self.encode_body(py, body.len(), whole, "the event", "a JSON object")
    }

    #[pyo3(signature = (datagrams, r#type="syslog", source=None))]
    fn syslog(
        &self,
        py: Python<'_>,
        datagrams: &Datagrams,
        r#type: &str,
        source: Option<&str>,
    ) -> Encoded {
        let common = syslog::Common { r#type, source };
        self.encode(py, datagrams.bytes(), |encoder| {
            for datagram in datagrams.each() {
                syslog::message(encoder, datagram, common);
            }
            encoder.consumed = datagrams.bytes();
        })
    }

    #[pyo3(signature = (block, r#type="syslog", source=None, frame_bytes_max=65536,
                        r#final=false))]
    fn syslog_stream(
        &self,
        py: Python<'_>,
        block: &[u8],
        r#type: &str,
        source: Option<&str>,
        frame_bytes_max: usize,
        r#final: bool,
    ) -> PyResult<Encoded> {
        if frame_bytes_max == 0 {
            return Err(PyValueError::new_err("cannot read frames of 0 bytes: give at least 1"));
        }
        let (common, mut outcome) = (syslog::Common { r#type, source }, Ok(()));
        let encoded = self.encode(py, block.len(), |encoder| {
            outcome = syslog::stream(encoder, block, common, frame_bytes_max, r#final);
        });
        outcome.map(|()| encoded).map_err(|NoSuchFrame| {
            PyValueError::new_err(format!(
                "cannot read the stream: its next message claims more than {frame_bytes_max} \
                 bytes; close the connection"
            ))
        })
    }

    #[pyo3(signature = (data, opaque, r#type, id=None, subject=None, time=None, source=None,
                        dataschema=None, content_type=None, extensions=None))]
    #[allow(clippy::too_many_arguments)] // one event's attributes, each by name
    fn event(
        &self,
        py: Python<'_>,
        data: Option<&[u8]>,
        opaque: Option<bool>,
        r#type: &str,
        id: Option<&str>,
        subject: Option<&str>,
        time: Option<&str>,
        source: Option<&str>,
        dataschema: Option<&str>,
        content_type: Option<&str>,
        extensions: Option<&str>,
    ) -> Encoded {
        let mut attributes = Attributes::default();
        for (tag, value) in [
            (Tag::Type, Some(r#type)),
            (Tag::Id, id),
            (Tag::Subject, subject),
            (Tag::Time, time),
            (Tag::Source, source),
            (Tag::DataSchema, dataschema),
            (Tag::ContentType, content_type),
            (Tag::Extensions, extensions),
        ] {
            attributes.set(tag, value.map(str::as_bytes));
        }
        let is_json = || content_type.is_none_or(|value| is_json_content_type(value.as_bytes()));
        let opaque = data.is_some() && opaque.unwrap_or_else(|| !is_json());
        let (flags, data) = (if opaque { FLAG_OPAQUE } else { 0 }, data.unwrap_or(NO_DATA));
        self.encode(py, data.len(), |encoder| {
            let outcome = cloudevents::check_extensions(extensions.unwrap_or_default().as_bytes())
                .and_then(|()| encoder.push(&attributes, flags, data).map_err(Refusal::from));
            encoder.note(outcome);
            encoder.consumed = data.len();
        })
    }
}

impl Encoded {
    pub fn of(py: Python<'_>, encoder: Encoder<'_>) -> Self {
        let word = |(index, refusal): (usize, Refusal)| (index, refusal.word().to_owned());
        Self {
            payloads: PyBytes::new(py, &encoder.payloads).unbind(),
            count: encoder.count,
            seen: encoder.seen,
            refused: encoder.refused.into_iter().map(word).collect(),
            consumed: encoder.consumed,
        }
    }
}

impl DoorEncoder {
    pub(super) fn encode(
        &self,
        py: Python<'_>,
        input_bytes: usize,
        fill: impl FnOnce(&mut Encoder<'_>) + Send,
    ) -> Encoded {
        let mut encoder = Encoder::new(&self.rules, input_bytes);
        if input_bytes < DETACH_BYTES_MIN {
            fill(&mut encoder);
        } else {
            py.detach(|| fill(&mut encoder));
        }
        Encoded::of(py, encoder)
    }

    fn encode_body(
        &self,
        py: Python<'_>,
        input_bytes: usize,
        fill: impl FnOnce(&mut Encoder<'_>) -> Result<(), NoSuchBody> + Send,
        what: &str,
        wanted: &str,
    ) -> PyResult<Encoded> {
        let mut outcome = Ok(());
        let encoded = self.encode(py, input_bytes, |encoder| outcome = fill(encoder));
        outcome.map(|()| encoded).map_err(|NoSuchBody| {
            PyValueError::new_err(format!("cannot read {what}: the body is not {wanted}; send one"))
        })
    }
}
