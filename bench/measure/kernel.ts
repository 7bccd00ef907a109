/** Memory that the kernel holds for sockets. Of the whole machine: compare two looks, with nothing else going on. */
import { readFileSync } from 'node:fs'

export interface KernelMemory {
  slabBytes: number
  /** Pages in socket buffers (`mem` of /proc/net/sockstat). */
  socketBufferBytes: number
  /** What processes cost the kernel: page tables and stacks. */
  processBytes: number
  tcpSockets: number
  /** Memory in use on the machine: MemTotal - MemAvailable. */
  usedBytes: number
  /** Without swapping or taking from anybody. */
  availableBytes: number
}

const PAGE_BYTES = 4096

export function kernelMemory(): KernelMemory {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const sockstat = readFileSync('/proc/net/sockstat', 'utf8')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? Number.NaN)
  const tcp = /^TCP: inuse (\d+) .* mem (\d+)/m.exec(sockstat)
  return {
    slabBytes: kib('Slab') * 1024,
    socketBufferBytes: Number(tcp?.[2] ?? 0) * PAGE_BYTES,
    processBytes: (kib('PageTables') + kib('KernelStack')) * 1024,
    tcpSockets: Number(tcp?.[1] ?? 0),
    usedBytes: (kib('MemTotal') - kib('MemAvailable')) * 1024,
    availableBytes: kib('MemAvailable') * 1024,
  }
}

/** What one more of `count` sockets took between two looks. */
export function kernelBytesEach(before: KernelMemory, after: KernelMemory, count: number): number {
  const slab = after.slabBytes - before.slabBytes
  const buffers = after.socketBufferBytes - before.socketBufferBytes
  return (slab + buffers) / count
}
