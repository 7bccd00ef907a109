/** Settings of tokens and enrolment. */
import Type, { type Static } from 'typebox'

export const AuthSettings = Type.Object(
  {
    issuer: Type.String({
      default: 'borealis',
      minLength: 1,
      description: '`iss` of access tokens and device tokens. Core and transport need the same value.',
    }),
    audience: Type.String({
      default: 'borealis-push',
      minLength: 1,
      description: '`aud` of access tokens. Several values are separated by spaces.',
    }),
    accessTokenSeconds: Type.Integer({ default: 3_600, minimum: 60, description: 'Lifetime of an access token.' }),
    assertionSecondsMax: Type.Integer({
      default: 300,
      minimum: 10,
      maximum: 600,
      description: 'Longest lifetime of a client assertion, from its `iat` to its `exp`.',
    }),
    tokenRequestsPerSecond: Type.Integer({
      default: 10,
      minimum: 1,
      description: 'Requests to the token endpoint from one address; further ones are answered 429.',
    }),
    tokenRequestsBurst: Type.Integer({
      default: 50,
      minimum: 1,
      description: 'Requests to the token endpoint that one address may send at once.',
    }),
    deviceTokenDays: Type.Integer({
      default: 365,
      minimum: 1,
      description: 'Lifetime of a device token; the device renews it in the last quarter.',
    }),
    deviceTokenGraceDays: Type.Integer({
      default: 90,
      minimum: 0,
      description: 'Time after its end for which a device token can still be renewed.',
    }),
    transportUrl: Type.String({
      default: 'ws://127.0.0.1:7700/v1/device',
      description: 'Address of the transport, which devices get at enrolment.',
    }),
    verifiedTokensMax: Type.Integer({
      default: 1_024,
      minimum: 1,
      description:
        'Most verified access tokens that a core remembers, so that it checks the signature of each only once.',
    }),
  },
  { additionalProperties: false, description: 'Tokens and enrolment.' },
)
export type AuthSettings = Static<typeof AuthSettings>
