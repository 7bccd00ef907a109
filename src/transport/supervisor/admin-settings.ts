import Type, { type Static } from 'typebox'

export const AdminSettings = Type.Object(
  {
    host: Type.String({
      default: '127.0.0.1',
      description: 'Address of the admin port. Any address but loopback needs a token.',
    }),
    port: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 65535,
      description:
        'Port for `borealis drain`, `borealis rolling-restart`, `borealis reload` and `borealis status`; 0: none.',
    }),
    token: Type.String({
      default: '',
      description:
        'Token that callers send as `Authorization: Bearer`; empty: every caller that reaches the port is allowed.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The admin port of a transport instance.' },
)
export type AdminSettings = Static<typeof AdminSettings>
