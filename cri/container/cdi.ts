/** CDI devices on this machine: the files of the configured directories, and the device nodes that they name. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { explain, Fault } from '#host/fault.ts';
import { namesIn } from '#host/names-in.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import { type CdiFile, cdiEdits, editSpec, type FoundNode } from '../spec/cdi.ts';
import { type CdiDeviceNode, type CdiEdits, cdiSpec } from '../spec/cdi-spec.ts';
import { deviceNumbers } from '../spec/devices.ts';

const maxFileBytes = 4 * 1024 * 1024;

/**
 * The spec with what these devices need (`vendor.com/class=name`). The files are read anew each time, so that a vendor may change them. Fault 'invalid'
 * says what is wrong with which device.
 */
export async function injectCdiDevices(directories: readonly string[], spec: OciSpec, names: readonly string[]): Promise<OciSpec> {
  if (names.length === 0) return spec;
  const files = (await Promise.all(directories.map(readDirectory))).flat();
  let edited = spec;
  for (const edits of cdiEdits(files, names)) edited = editSpec(edited, edits, await nodesOf(edits));
  return edited;
}

async function readDirectory(directory: string, index: number): Promise<CdiFile[]> {
  const names = (await namesIn(directory)).filter((name) => /\.(json|ya?ml)$/.test(name)).toSorted();
  return Promise.all(names.map(async (name): Promise<CdiFile> => {
    const path = join(directory, name);
    return { path, directory: index, content: await readSpec(path) };
  }));
}

/** A broken file must not take the devices of the others away. */
async function readSpec(path: string): Promise<CdiFile['content']> {
  try {
    const { size } = await stat(path);
    if (size > maxFileBytes) throw new Fault('invalid', `too long (${size} bytes)`);
    return cdiSpec(parse(await readFile(path, 'utf8')) as unknown, path);
  } catch (error) {
    return error instanceof Fault && error.message.includes(path) ? error : new Fault('invalid', `CDI file ${path}: ${explain(error).split('\n')[0]}`);
  }
}

const nodesOf = (edits: CdiEdits): Promise<FoundNode[]> => Promise.all(edits.deviceNodes.map(findNode));

async function findNode(node: CdiDeviceNode): Promise<FoundNode> {
  const { path, hostPath, fileMode, permissions, uid, gid } = node;
  const isToldWhole = node.type !== '' && (node.type === 'p' || (node.major !== undefined && node.minor !== undefined));
  const told = isToldWhole ? { type: node.type === 'u' ? 'c' : node.type, major: node.major ?? 0, minor: node.minor ?? 0 } : await hostNode(hostPath);
  const isOther = node.type !== '' && told.type !== (node.type === 'u' ? 'c' : node.type);
  if (isOther) throw new Fault('invalid', `CDI device node ${hostPath}: is not of type ${node.type}`);
  return { path, ...(told as Pick<FoundNode, 'type' | 'major' | 'minor'>), fileMode, permissions, uid, gid };
}

async function hostNode(path: string): Promise<Pick<FoundNode, 'type' | 'major' | 'minor'>> {
  let info;
  try {
    info = await stat(path, { bigint: true });
  } catch (error) {
    throw new Fault('invalid', `CDI device node ${path}`, error);
  }
  const type = info.isCharacterDevice() ? 'c' : info.isBlockDevice() ? 'b' : info.isFIFO() ? 'p' : undefined;
  if (type === undefined) throw new Fault('invalid', `CDI device node ${path}: not a device`);
  return { type, ...deviceNumbers(info.rdev) };
}
