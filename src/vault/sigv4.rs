//! AWS Signature Version 4, for requests without a query: what the documentation calls the canonical
//! request, the string to sign and the signing key.

use super::seal::hmac;
use crate::types::KeyToken;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Who signs.
pub(super) struct Credentials {
    /// The access key's id. Not a secret.
    pub id: String,
    /// The secret access key.
    pub secret: KeyToken,
    /// The session's token, for credentials that expire.
    pub session: Option<KeyToken>,
}

/// What is signed.
pub(super) struct Signing<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Names in lower case, in the order of the alphabet; `host` and `x-amz-date` among them.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// `YYYYMMDDTHHMMSSZ`.
    pub at: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl Signing<'_> {
    /// The `Authorization` header.
    pub(super) fn authorization(&self, credentials: &Credentials) -> String {
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let request = format!(
            "{}\n{}\n\n{headers}\n{names}\n{}",
            self.method,
            self.path,
            hex(&Sha256::digest(self.body))
        );
        let day = self.at.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.at, hex(&Sha256::digest(request.as_bytes())));
        let mut key = Zeroizing::new(format!("AWS4{}", credentials.secret.expose()).into_bytes());
        for part in [day, self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(hmac(&key, part.as_bytes()).to_vec());
        }
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            credentials.id,
            hex(&hmac(&key, to_sign.as_bytes()))
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example credentials of AWS's own test suite for this signature.
    fn credentials() -> Credentials {
        Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: KeyToken::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session: None,
        }
    }

    #[test]
    fn the_signatures_of_aws_s_test_suite_are_met() {
        let host_and_date = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let with_type = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        for (name, method, headers, body, signature) in [
            (
                "get-vanilla",
                "GET",
                &host_and_date[..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                &host_and_date[..],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                &with_type[..],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let signing = Signing {
                method,
                path: "/",
                headers,
                body: body.as_bytes(),
                at: "20150830T123600Z",
                region: "us-east-1",
                service: "service",
            };
            let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                signing.authorization(&credentials()),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                ),
                "{name}"
            );
        }
    }
}
