//! Keys of tokens and their claims.

use figspan_settings::Table;

use super::key;

pub(in super::super) static JWT_PROVIDER: Table = Table {
    path: "jwt_provider",
    doc: "Who signs the tokens (JSON Web Tokens, RFC 7519) that rules ask for with `jwt`. A token counts when a key of the file has signed it with one of the algorithms, `iss` is the issuer, `aud` has one of the audiences, and now is between `nbf` and `exp`; a token without `exp` never does.",
    keys: &[
        key("name", "name", "", "Its name. Required."),
        key("issuer", "text", "", "What `iss` must be, to the letter. Required."),
        key(
            "audiences",
            "list of texts",
            "",
            "Of which one must be in `aud`: without this check, a token that the issuer made for somebody else would open these routes. Required.",
        ),
        key(
            "jwks_file",
            "path",
            "",
            "The provider's public keys, a JWK set (RFC 7517) with RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519, up to 64 of them in 256 KiB. It is watched: replace it (by renaming another file over it) and the next token is verified with the new keys; what cannot be read leaves those before in use and is an event. Required.",
        ),
        key(
            "algorithms",
            "list of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA",
            "all of them",
            "Which signatures count. There are no others: neither `none` nor HMAC can be asked for.",
        ),
        key("clock_skew", "duration up to 10m, 0s is off", "60s", "How far the provider's clock and the hub's may be apart."),
        key("header", "text", "authorization", "The field with the token."),
        key(
            "prefix",
            "text",
            "Bearer with authorization, else none",
            "The word before the token, in any case. What has another word is no token.",
        ),
        key("forward", "true or false", "true", "Whether workloads get the token too, not only its claims."),
        key("max_token_bytes", "256B to 64KiB", "8KiB", "Longest token. `limits.header_bytes` bounds it too."),
    ],
};

pub(in super::super) static RULE_JWT: Table = Table {
    path: "http_route.rules.jwt",
    doc: "Whose tokens the rule's requests show. It is asked first: what is refused (401 with WWW-Authenticate, RFC 6750) uses up nobody's limits and reaches no workload and no mirror. CORS preflights, which browsers send without a token, are answered before.",
    keys: &[
        key("provider", "name", "", "A `[[jwt_provider]]` of this file. Required."),
        key(
            "required",
            "true or false",
            "true",
            "Whether a request without a token is refused. A token that does not count is refused in any case.",
        ),
        key("claims_to_headers", "list of tables", "", "Claims that workloads get as fields, mirrors too."),
    ],
};

pub(in super::super) static CLAIM_HEADER: Table = Table {
    path: "http_route.rules.jwt.claims_to_headers",
    doc: "A claim and its field. Whatever a client itself sends under a name that is used here, in any spelling and as a trailer, is taken away, from requests of all rules.",
    keys: &[
        key(
            "claim",
            "text",
            "",
            "Its name. A dot leads into a claim's members (`realm_access.roles`), unless a claim has the dot in its own name. Texts, numbers, `true` and `false` have a value, and lists of them, joined by commas. Without one (not there; longer than 4 KiB; control characters, blanks at an end, a comma inside an entry of a list) the field is not written. Required.",
        ),
        key("header", "text", "", "The field, of letters, digits and `-`. Required."),
    ],
};
