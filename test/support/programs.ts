/** Finds system programs that some tests need. `npm test` installs them if apt can (scripts/test-tools.mjs). */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const folders = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin']

/** The path of a program, or null. */
export function findProgram(name: string): string | null {
  const path = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return [...path, ...folders].map((folder) => join(folder, name)).find(isExecutable) ?? null
}

/** Options for a tap test that needs a program: without it the test is skipped and names the missing program. */
export function needs(name: string): { skip: false | string } {
  return { skip: findProgram(name) === null && `${name} is not installed` }
}

/** Makes a self-signed certificate for localhost and 127.0.0.1, and writes it to FOLDER/tls.crt and FOLDER/tls.key. */
export function makeCertificate(folder: string, commonName: string): { certificate: string; key: string; pem: string } {
  const [certificate, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')]
  execFileSync(
    findProgram('openssl') ?? 'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${commonName}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ...['-keyout', key, '-out', certificate],
    ],
    { stdio: 'ignore' },
  )
  return { certificate, key, pem: readFileSync(certificate, 'utf8') }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    // An absent file and a file that is not executable are the same to the caller.
    return false
  }
}
