import { availableParallelism } from 'node:os'
import t from 'tap'
import { cpuQuota, parseCfsQuota, parseCpuMax, processesAtOnce, processorsAvailable } from '../../src/processors.js'

const quotaIn = (files: Record<string, string>) => cpuQuota((path) => files[path] ?? null)

t.test('cpu.max of version 2 gives quota by period, and max gives none', async (t) => {
  t.equal(parseCpuMax('150000 100000\n'), 1.5)
  t.equal(parseCpuMax('50000 100000'), 0.5)
  for (const none of ['max 100000\n', '', 'max', '0 100000', '100000 0', 'a b']) t.equal(parseCpuMax(none), null, none)
})

t.test('the two files of version 1 give quota by period, and -1 gives none', async (t) => {
  t.equal(parseCfsQuota('200000\n', '100000\n'), 2)
  t.equal(parseCfsQuota('-1\n', '100000\n'), null)
  t.equal(parseCfsQuota(null, '100000\n'), null)
})

t.test('a container that sees its own group as the root has the quota of the root', async (t) => {
  t.equal(quotaIn({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '200000 100000\n' }), 2)
})

t.test('of a group and the groups that it is in, the smallest quota counts', async (t) => {
  const files = {
    '/proc/self/cgroup': '0::/kubepods/pod1/app\n',
    '/sys/fs/cgroup/kubepods/pod1/app/cpu.max': '400000 100000\n',
    '/sys/fs/cgroup/kubepods/pod1/cpu.max': '300000 100000\n',
    '/sys/fs/cgroup/kubepods/cpu.max': 'max 100000\n',
  }
  t.equal(quotaIn(files), 3)
})

t.test(
  'the quota of version 1 is found under its controller, and at the root where the path is not shown',
  async (t) => {
    const cgroup = '12:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/\n'
    const at = (folder: string) => ({
      '/proc/self/cgroup': cgroup,
      [`${folder}/cpu.cfs_quota_us`]: '50000\n',
      [`${folder}/cpu.cfs_period_us`]: '100000\n',
    })
    t.equal(quotaIn(at('/sys/fs/cgroup/cpu/docker/1')), 0.5)
    t.equal(quotaIn(at('/sys/fs/cgroup/cpu')), 0.5)
  },
)

t.test('without control groups there is no quota', async (t) => {
  t.equal(quotaIn({}), null)
  t.equal(quotaIn({ '/proc/self/cgroup': '0::/user.slice\n' }), null)
})

t.test('this process has at least one processor and at most those of the machine', async (t) => {
  t.ok(processorsAvailable() > 0 && processorsAvailable() <= availableParallelism())
  t.ok(processesAtOnce() >= 1 && Number.isInteger(processesAtOnce()))
})
