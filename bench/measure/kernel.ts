/** Memory that the kernel holds for sockets. Of the whole machine: compare two looks, with nothing else going on. */
import { readFileSync } from 'node:fs'

export interface KernelMemory {
  /** Of the slab what cannot be taken back, inodes of sockets included: nobody can take those either. */
  slabBytes: number
  /** Pages in socket buffers (`mem` of /proc/net/sockstat). */
  socketBufferBytes: number
  /** What processes cost the kernel: page tables and stacks. */
  processBytes: number
  tcpSockets: number
  /** Memory in use on the machine: MemTotal - MemAvailable. */
  usedBytes: number
  /** Without swapping or taking from anybody: less than what the kernel says, by the inodes of sockets. */
  availableBytes: number
}

const PAGE_BYTES = 4096
/**
 * sock_inode_cache, its dentry and their security blobs. The kernel counts them as reclaimable, and so as available, but they are not
 * before the socket is closed: at a million connections that is 2 GiB which does not exist.
 */
const SOCKET_INODE_BYTES = 832 + 192 + 32

export function kernelMemory(): KernelMemory {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const sockstat = readFileSync('/proc/net/sockstat', 'utf8')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? Number.NaN)
  const tcp = /^TCP: inuse (\d+) .* mem (\d+)/m.exec(sockstat)
  const inodeBytes = Number(/^sockets: used (\d+)/m.exec(sockstat)?.[1] ?? 0) * SOCKET_INODE_BYTES
  const availableBytes = kib('MemAvailable') * 1024 - inodeBytes
  return {
    slabBytes: kib('SUnreclaim') * 1024 + inodeBytes,
    socketBufferBytes: Number(tcp?.[2] ?? 0) * PAGE_BYTES,
    processBytes: (kib('PageTables') + kib('KernelStack')) * 1024,
    tcpSockets: Number(tcp?.[1] ?? 0),
    usedBytes: kib('MemTotal') * 1024 - availableBytes,
    availableBytes,
  }
}

/** What one more of `count` sockets took between two looks. */
export function kernelBytesEach(before: KernelMemory, after: KernelMemory, count: number): number {
  const slab = after.slabBytes - before.slabBytes
  const buffers = after.socketBufferBytes - before.socketBufferBytes
  return (slab + buffers) / count
}
