/** AppArmor on this machine: the default profile is loaded once at start, a named one has to be loaded already. */
import type { Ctx } from '#host/ctx.ts';
import { findProgram, runChecked } from '#host/exec.ts';
import { explain, Fault } from '#host/fault.ts';
import { readIfThere } from '#host/read-if-there.ts';
import { type AppArmorChoice, defaultAppArmorProfile, defaultProfileText, isLoadedProfile } from '../spec/apparmor.ts';

const profilesFile = '/sys/kernel/security/apparmor/profiles';

/** The default profile's name once it is loaded; undefined where AppArmor is off, or (with a warning) where it cannot be loaded. May run twice. */
export async function loadDefaultProfile(ctx: Ctx): Promise<string | undefined> {
  if ((await readIfThere('/sys/module/apparmor/parameters/enabled'))?.startsWith('Y') !== true) return undefined;
  try {
    const parser = await findProgram('apparmor_parser');
    if (parser === undefined) throw new Fault('precondition', 'apparmor_parser is not installed');
    // EINVAL: no security module answers.
    const daemon = (await readIfThere('/proc/self/attr/current', 'EINVAL'))?.split(' ')[0]?.trim() || 'unconfined';
    // Replaced even when it is there: it may be an older version's.
    await runChecked(ctx, { path: parser, args: ['--replace', '--skip-cache'], stdin: defaultProfileText(daemon) });
    return defaultAppArmorProfile;
  } catch (error) {
    ctx.signal.throwIfAborted();
    ctx.log.warn({ err: error }, `containers run without the default AppArmor profile: ${explain(error)}`);
    return undefined;
  }
}

/** A profile that is not loaded must fail the creation, not the start. Fault 'invalid' names it. */
export async function assertLoadedProfile(choice: AppArmorChoice, host: { enabled: boolean }): Promise<void> {
  if (choice.kind !== 'named' || !host.enabled) return;
  if (!isLoadedProfile((await readIfThere(profilesFile)) ?? '', choice.name)) throw new Fault('invalid', `AppArmor profile ${choice.name} is not loaded`);
}
