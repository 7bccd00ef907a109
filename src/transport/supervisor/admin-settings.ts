import Type, { type Static } from 'typebox'

export const AdminSettings = Type.Object(
  {
    host: Type.String({
      default: '127.0.0.1',
      description: 'Address of the admin port. Anything but loopback needs a token.',
    }),
    port: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 65535,
      description: 'Port for `borealis drain`, `borealis rolling-restart` and the like; 0: none.',
    }),
    token: Type.String({
      default: '',
      description: 'What callers have to send as `Authorization: Bearer`; empty: whoever reaches the port may.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The admin port of a transport instance.' },
)
export type AdminSettings = Static<typeof AdminSettings>
