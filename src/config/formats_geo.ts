// Codes of countries and continents. Knows texts only.

import type { Complaint } from "./formats.ts";
import { quoted } from "./problem.ts";

export const COUNTRY_PATTERN = "^[A-Z]{2}$";
export const CONTINENT_PATTERN = "^(AF|AN|AS|EU|NA|OC|SA)$";

/** ISO 3166-1 alpha-2, the 249 that are assigned, and XK: not assigned, but what databases call Kosovo. */
export const COUNTRIES: ReadonlySet<string> = new Set((
  "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK "
  + "CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR "
  + "GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT "
  + "LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH "
  + "PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL "
  + "TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
).split(" "));

export const CONTINENTS: Readonly<Record<string, string>> = {
  AF: "Africa", AN: "Antarctica", AS: "Asia", EU: "Europe", NA: "North America", OC: "Oceania", SA: "South America",
};

/** What people write for the code that is meant. */
const MEANT: Readonly<Record<string, string>> = { UK: "GB", EL: "GR" };

export function checkCountry(text: string): Complaint | null {
  if (COUNTRIES.has(text)) return null;
  const upper = text.toUpperCase();
  const reason = `${quoted(text)} is not the code of a country`;
  const meant = MEANT[upper] ?? upper;
  if (COUNTRIES.has(meant)) return { reason, hint: `write ${meant}` };
  if (Object.hasOwn(CONTINENTS, upper)) return { reason, hint: `for ${CONTINENTS[upper]}, write continents: [${upper}]` };
  return { reason, hint: "two letters of ISO 3166-1, such as DE" };
}

export function checkContinent(text: string): Complaint | null {
  if (Object.hasOwn(CONTINENTS, text)) return null;
  const upper = text.toUpperCase();
  const known = Object.entries(CONTINENTS).map(([code, name]) => `${code} (${name})`).join(", ");
  return {
    reason: `${quoted(text)} is not the code of a continent`,
    hint: Object.hasOwn(CONTINENTS, upper) ? `write ${upper}` : known,
  };
}
