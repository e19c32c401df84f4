// Limits for many samples at once: pass, fail, or not decided. An answer that is doubted decides nothing.

// Below this the method was never meant to see an element (defectnet.host.MIN_CONCENTRATION).
const LEAST_SEEN = 0.002;
// From this probability up the model hesitates to rule an element out (defectnet.prediction.HESITATION).
export const HESITATION = 0.1;

// "Ge 2, Sn 0.5" → {Ge: 0.02, Sn: 0.005}; null where it cannot be read.
export function readLimits(text) {
  const limits = {};
  for (const part of text.split(/[,;\n]+/).map((one) => one.trim()).filter(Boolean)) {
    const found = /^([A-Z][a-z]?)\s*(?:<|≤|<=|:|=)?\s*(\d+(?:\.\d+)?)\s*(?:%|at\.?%)?$/.exec(part);
    if (!found || Number(found[2]) > 100) return null;
    limits[found[1]] = Number(found[2]) / 100;
  }
  return limits;
}

// weighed: which elements were asked about, or null for every one that the model knows.
export function judge(answer, limits, weighed, known) {
  if (!Object.keys(limits).length) return { verdict: "", why: "" };
  const { prediction, said } = answer;
  if (said.trust === "none") return { verdict: "undecided", why: "there is no answer" };
  if (said.trust === "doubt") return { verdict: "undecided", why: "the answer is doubted" };
  const undecided = prediction.fit ? [] : ["nothing has checked the answer"];
  for (const [symbol, limit] of Object.entries(limits)) {
    const found = prediction.elements.find((one) => one.element === symbol);
    if (found?.present && found.low > limit) return { verdict: "fail", why: `${symbol} lies above its limit` };
    if (!found && !(weighed ? weighed.includes(symbol) : known.has(symbol))) undecided.push(`${symbol} was not weighed`);
    else if (limit < LEAST_SEEN) undecided.push(`a limit of ${100 * limit} at.% ${symbol} is below what the method sees`);
    else if (found && (found.present || found.probability >= HESITATION) && found.high > limit) undecided.push(`${symbol} may lie on either side of its limit`);
  }
  return undecided.length ? { verdict: "undecided", why: undecided.join("; ") } : { verdict: "pass", why: "" };
}
