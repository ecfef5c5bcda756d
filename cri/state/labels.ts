/** Label selectors of the CRI's filters. Pure. */
type Labels = Readonly<Record<string, string>>;

/** All that is wanted is there; nothing wanted fits everything. */
export const hasLabels = (labels: Labels, wanted: Labels): boolean => Object.entries(wanted).every(([key, value]) => labels[key] === value);
