//! How a site's key becomes known: a one-time token from the linker's operator, and a request that proves possession.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeError, Message, Verified};
use crate::ids::{IdError, SiteId};
use crate::keys::{KeyId, PublicKey};

const PREFIX: &str = "lockgate-enrol-";

/// What the operator hands to a site: a secret that works once, and the linker's key id, so that the site knows whom it
/// is talking to before it trusts an answer.
#[derive(Clone, ZeroizeOnDrop)]
pub struct EnrolmentToken {
    /// 32 random bytes.
    pub secret: [u8; 32],
    /// The linker's key.
    #[zeroize(skip)]
    pub linker: KeyId,
}

impl EnrolmentToken {
    /// The token as text, to be written to a file.
    pub fn to_text(&self) -> zeroize::Zeroizing<String> {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.secret);
        bytes[32..].copy_from_slice(self.linker.0.as_bytes());
        let text = zeroize::Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)));
        bytes.zeroize();
        text
    }

    /// What the linker keeps of the secret.
    pub fn secret_digest(secret: &[u8; 32]) -> Digest {
        Digest::of(secret)
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentToken(linker {})", self.linker)
    }
}

impl FromStr for EnrolmentToken {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong =
            || IdError::new("enrolment token", "ask the linker's operator for a new one", "(not shown)");
        let encoded = text.trim().strip_prefix(PREFIX).ok_or_else(wrong)?;
        let bytes = zeroize::Zeroizing::new(BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| wrong())?);
        let (secret, linker) = bytes.split_at_checked(32).ok_or_else(wrong)?;
        Ok(Self {
            secret: secret.try_into().map_err(|_| wrong())?,
            linker: KeyId(Digest::from_bytes(linker.try_into().map_err(|_| wrong())?)),
        })
    }
}

/// "This is the site's key; here is the token." Signed with that key.
#[derive(Clone)]
pub struct EnrolmentRequest {
    /// The site.
    pub site: SiteId,
    /// Its new key.
    pub public_key: PublicKey,
    /// The token's secret.
    pub secret: [u8; 32],
}

impl fmt::Debug for EnrolmentRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentRequest({}, {:?})", self.site, self.public_key)
    }
}

const PLACE: &str = "enrolment request";
const FORMAT: u64 = 1;

impl Message for EnrolmentRequest {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.enrolment+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(4, FORMAT);
        writer.unsigned(2);
        writer.text(self.site.as_str());
        writer.unsigned(3);
        writer.bytes(&self.public_key.to_bytes());
        writer.unsigned(4);
        writer.bytes(&self.secret);
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(4, FORMAT, PLACE)?;
        r.field(2, PLACE)?;
        let site = r.text(PLACE)?.parse().map_err(|error| CborError::value(PLACE, error))?;
        r.field(3, PLACE)?;
        let public_key =
            PublicKey::from_bytes(&r.fixed(PLACE)?).map_err(|error| CborError::value(PLACE, error))?;
        r.field(4, PLACE)?;
        let secret = r.fixed(PLACE)?;
        reader.finish()?;
        Ok(Self { site, public_key, secret })
    }
}

/// Verifies a request with the key that it carries: proof that the sender holds the private half, and no more than that.
pub fn verify_request(bytes: &[u8]) -> Result<Verified<EnrolmentRequest>, EnvelopeError> {
    let envelope = Envelope::<EnrolmentRequest>::read(bytes)?;
    let claimed = EnrolmentRequest::decode(envelope.payload_dangerous()).map_err(EnvelopeError::Content)?;
    envelope.verify(&claimed.public_key)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::envelope::sign;
    use crate::keys::SigningKey;

    #[test]
    fn a_request_signed_with_another_key_is_refused() {
        let mine = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let other = SigningKey::from_seed(&Zeroizing::new([2; 32]));
        let site: SiteId = "A81001".parse().unwrap();
        let request = EnrolmentRequest { site, public_key: mine.public(), secret: [3; 32] };
        assert!(verify_request(&sign(&request, &mine)).is_ok());
        assert!(verify_request(&sign(&request, &other)).is_err());
    }

    #[test]
    fn a_token_is_read_back_and_never_printed() {
        let linker = SigningKey::from_seed(&Zeroizing::new([1; 32])).public().id();
        let token = EnrolmentToken { secret: [9; 32], linker };
        let again: EnrolmentToken = token.to_text().parse().unwrap();
        assert_eq!((again.secret, again.linker), (token.secret, token.linker));
        let wrong = format!("{}x", *token.to_text()).parse::<EnrolmentToken>().unwrap_err();
        assert!(!wrong.to_string().contains(&token.to_text()[20..40]));
        assert!(!format!("{token:?}").contains('9'.to_string().repeat(8).as_str()));
    }
}
