/** The bodies of errors, as schemas: of the API, and of the token endpoint. */
import Type from 'typebox'
import { type ErrorCode, Errors } from '../../../../protocol/errors.js'
import { OAuthErrors } from '../../../../protocol/oauth-errors.js'
import { MapOf } from '../../domain/schema.js'

const codes = (Object.keys(Errors) as ErrorCode[]).filter((code) => Errors[code].http > 0)

export const ErrorAnswer = Type.Object(
  {
    error: Type.Object(
      {
        code: Type.Enum(codes),
        message: Type.String({ description: 'For people.' }),
        details: MapOf(Type.Unknown(), { description: 'The field, the limit or the targets that the error is about.' }),
      },
      { $id: 'ErrorDetails' },
    ),
  },
  { $id: 'Error' },
)

export const OAuthErrorAnswer = Type.Object(
  { error: Type.Enum(Object.keys(OAuthErrors)), error_description: Type.String() },
  { $id: 'OAuthError' },
)
