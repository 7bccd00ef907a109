/** Checks the files of a certificate and its key before a listener or a worker process uses them. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

/**
 * Throws if a file is missing or is not PEM, or if the key is not that of the certificate. Empty names mean: no TLS.
 */
export function checkTlsFiles({ tlsCertificate, tlsKey }: { tlsCertificate: string; tlsKey: string }): void {
  if (tlsCertificate === '' && tlsKey === '') return
  try {
    createSecureContext({ cert: readFileSync(tlsCertificate), key: readFileSync(tlsKey) })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`TLS: ${tlsCertificate} and ${tlsKey} are not a certificate and its key: ${reason}`, { cause })
  }
}
