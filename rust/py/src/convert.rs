//! Python objects to core JSON values.

use crate::error::CoreError;
use nearhit_core::Error;
use nearhit_core::text::json::{MAX_DEPTH, Value};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

/// A JSON value from `None`, bool, int, float, str, list, tuple, dict or another mapping.
pub(crate) fn value(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    value_at(object, 0)
}

/// The text of a Python string; lone surrogates have no UTF-8 form, so they are refused.
pub(crate) fn text<'a>(object: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    object.to_str().map_err(|_| {
        request("text holds a lone surrogate: decode it properly, or pass text.encode(\"utf-8\", \"replace\").decode()")
    })
}

fn request(reason: impl Into<String>) -> PyErr {
    CoreError(Error::Request { reason: reason.into() }).into()
}

fn value_at(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(request(format!("nested deeper than {MAX_DEPTH} levels (or it holds itself): flatten it")));
    }
    if let Ok(string) = object.cast::<PyString>() {
        return text(string).map(Value::from);
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        return dict.iter().map(|pair| entry(&pair, depth)).collect::<PyResult<_>>().map(Value::Object);
    }
    if let Ok(list) = object.cast::<PyList>() {
        return list.iter().map(|item| value_at(&item, depth + 1)).collect::<PyResult<_>>().map(Value::Array);
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return tuple.iter().map(|item| value_at(&item, depth + 1)).collect::<PyResult<_>>().map(Value::Array);
    }
    if object.is_instance_of::<PyInt>() {
        return match object.extract::<i64>() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Ok(Value::BigInt(object.str()?.to_string())),
        };
    }
    if object.is_instance_of::<PyFloat>() {
        return object.extract::<f64>().map(Value::Float);
    }
    if let Ok(mapping) = object.cast::<PyMapping>() {
        return mapping
            .items()?
            .iter()
            .map(|pair| entry(&pair.extract()?, depth))
            .collect::<PyResult<_>>()
            .map(Value::Object);
    }
    let kind = object.get_type().name()?;
    let hint = if kind == "bytes" { ": decode it first" } else { ": pass str, numbers, lists and dicts" };
    Err(request(format!("{kind} is not JSON{hint}")))
}

fn entry((key, item): &(Bound<'_, PyAny>, Bound<'_, PyAny>), depth: usize) -> PyResult<(String, Value)> {
    let Ok(key) = key.cast::<PyString>() else {
        return Err(request(format!("key {} of an object is not a string", key.repr()?)));
    };
    Ok((text(key)?.to_owned(), value_at(item, depth + 1)?))
}
