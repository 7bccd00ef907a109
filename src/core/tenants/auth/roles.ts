/**
 * The roles of the admin API and the actions that they allow. An actor has a role for some projects or for the whole service
 * (`*`). Each action requires a minimum role, and some actions require the whole service.
 */
import { CodedError } from '../../../../protocol/errors.js'

/** In ascending order of permissions. */
export const ROLES = ['viewer', 'developer', 'operator'] as const
export type Role = (typeof ROLES)[number]

interface Rule {
  roleMin: Role
  /** `service`: only an actor with `*` may do it. */
  scope: 'project' | 'service'
  /** True: AUDIT records the action, because it changes something. */
  audited: boolean
}

const sees = (roleMin: Role, scope: Rule['scope'] = 'project'): Rule => ({ roleMin, scope, audited: false })
const changes = (roleMin: Role, scope: Rule['scope'] = 'project'): Rule => ({ roleMin, scope, audited: true })

/** All actions of the admin API. A test compares them with the table in docs/operate/admin.md. */
export const Actions = {
  'project.show': sees('viewer'),
  'application.list': sees('viewer'),
  'registration.list': sees('viewer'),
  'counters.show': sees('viewer'),
  'audit.show': sees('viewer'),
  'events.show': sees('viewer'),
  'events.on': changes('developer'),
  'events.off': changes('developer'),
  'webhook.set': changes('developer'),
  'webhook.rotate': changes('developer'),
  'webhook.retry': changes('developer'),
  'webhook.remove': changes('developer'),
  'application.create': changes('developer'),
  'application.set': changes('developer'),
  'key.add': changes('developer'),
  'key.remove': changes('developer'),
  'registration.revoke': changes('developer'),
  'token.mint': changes('developer'),
  'project.suspend': changes('operator'),
  'project.resume': changes('operator'),
  'project.limit': changes('operator'),
  'project.create': changes('operator', 'service'),
  'fleet.list': sees('operator', 'service'),
  'fleet.create': changes('operator', 'service'),
  'fleet.projects': changes('operator', 'service'),
  'fleet.keys.list': sees('operator', 'service'),
  'fleet.keys.add': changes('operator', 'service'),
  'fleet.keys.retire': changes('operator', 'service'),
  'fleet.cutoff': changes('operator', 'service'),
  'device.revoke': changes('operator', 'service'),
  'device.reset': changes('operator', 'service'),
  'credential.list': sees('operator', 'service'),
  'credential.create': changes('operator', 'service'),
  'credential.remove': changes('operator', 'service'),
  'keyring.add': changes('operator', 'service'),
  'keyring.activate': changes('operator', 'service'),
  'keyring.retire': changes('operator', 'service'),
  'keyring.adopt': changes('operator', 'service'),
} as const satisfies Record<string, Rule>
export type Action = keyof typeof Actions

/** A person or program that uses the admin API or `borealis admin`. */
export interface Actor {
  /** The name in AUDIT. */
  name: string
  role: Role
  /** `*`: all present and future projects. */
  projects: '*' | readonly string[]
}

/** @param project null: the action concerns no project, or all of them. */
export function mayDo(actor: Actor, action: Action, project: string | null): boolean {
  const rule: Rule = Actions[action]
  if (ROLES.indexOf(actor.role) < ROLES.indexOf(rule.roleMin)) return false
  if (actor.projects === '*') return true
  return rule.scope === 'project' && project !== null && actor.projects.includes(project)
}

/** Throws CodedError `forbidden`. */
export function requirePermission(actor: Actor, action: Action, project: string | null): void {
  if (!mayDo(actor, action, project)) {
    throw new CodedError('forbidden', `this credential does not allow ${action}`, { action })
  }
}
