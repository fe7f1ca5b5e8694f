//! DISCONNECT and AUTH.

use super::reader::Reader;
use crate::error::DecodeError;
use crate::packet::{Auth, Disconnect};
use crate::property::Properties;
use crate::property::table::Place;
use crate::protocol::Role;
use crate::reason::ReasonCode;
use crate::rules;

pub(super) fn decode_disconnect<'a>(
    reader: &mut Reader<'a>,
) -> Result<Disconnect<'a>, DecodeError> {
    // 5 §3.14.2.1: without a Reason Code it is 0x00; 5 §3.14.2.2.1: without a length no properties.
    let (reason, properties) = if reader.is_v5() && !reader.is_empty() {
        let reason = reader.reason("Disconnect Reason Code", &rules::DISCONNECT_REASON)?;
        (reason, reader.properties_or_end(Place::Disconnect)?)
    } else {
        (ReasonCode::NORMAL_DISCONNECTION, Properties::EMPTY)
    };
    reader.finish()?;
    Ok(Disconnect { reason, properties })
}

pub(super) fn decode_auth<'a>(reader: &mut Reader<'a>) -> Result<Auth<'a>, DecodeError> {
    const FIELD: &str = "Authenticate Reason Code";
    // 5 §3.15.2.1: an AUTH without contents says Success, which only a server says.
    if reader.is_empty() {
        if reader.sender == Role::Client {
            return Err(reader.error(reader.offset(), FIELD, &rules::AUTH_REASON));
        }
        return Ok(Auth {
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        });
    }
    let reason = reader.reason(FIELD, &rules::AUTH_REASON)?;
    let offset = reader.offset();
    let properties = reader.properties(Place::Auth)?;
    if properties.authentication_method().is_none() {
        let rule = &rules::AUTHENTICATION_METHOD_MISSING;
        return Err(reader.error(offset, "Authentication Method", rule));
    }
    reader.finish()?;
    Ok(Auth { reason, properties })
}
