// Units and how figures are written. Everything is in THz but what is shown.

// h = 4.135667696923859 meV/THz and c = 29979245800 cm/s, as in defectnet/units.py.
export const THZ_PER = { THz: 1, meV: 1 / 4.135667696923859, "cm-1": 0.0299792458 };
export const LABEL = { THz: "THz", meV: "meV", "cm-1": "cm⁻¹" };
export const AXIS = { THz: "Frequency (THz)", meV: "Energy (meV)", "cm-1": "Wavenumber (cm⁻¹)" };

export const inUnit = (thz, unit) => thz / THZ_PER[unit];

export function percent(fraction) {
  const value = 100 * fraction;
  if (value >= 9.95) return value.toFixed(0);
  return value >= 0.995 ? value.toFixed(1) : Number(value.toPrecision(2)).toString();
}

export const probability = (p) => (p > 0.99 ? "> 0.99" : p < 0.01 ? "< 0.01" : p.toFixed(2));

export const short = (value, digits = 3) => Number(value.toPrecision(digits)).toString().replace("-", "−");

export const formulaText = (formula) => formula.replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);
