// Compares what `otpost templates measure` says of some hundred texts with what sms-segments-calculator says, and with
// --write keeps the answers as tests/it/golden/segments.json, which a test holds the code against ever after.
//
//   tests/compare/segments/run.sh [--write]
//
// The calculator is Twilio's own. It is installed under target/, in the version that package.json names.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [binary, installed, mode] = process.argv.slice(2);
const { SegmentedMessage } = createRequire(`${installed}/`)('sms-segments-calculator');
const version = JSON.parse(readFileSync(`${installed}/node_modules/sms-segments-calculator/package.json`)).version;

// The texts: words of many scripts, in lengths around every border, with what is counted double.
const words = {
  spanish: 'MeStore: Hola María, tu código de verificación es 482913. Válido por 10 minutos. ',
  portuguese: 'MeStore: Olá João, seu código de verificação é 482913. Não compartilhe. ',
  english: 'MeStore: Hi Ana, your verification code is 482913. Do not share it. ',
  french: "Votre code d’accès est « 482913 ». Ne le partagez pas, même avec l'œil. ",
  german: 'Ihr Bestätigungscode lautet 482913. Bitte nicht weitergeben: Größe, Maß. ',
  italian: "Il tuo codice è 482913. Perché c'è già più virtù. ",
  polish: 'Twój kod weryfikacyjny to 482913. Zażółć gęślą jaźń. ',
  czech: 'Váš ověřovací kód je 482913. Příliš žluťoučký kůň. ',
  turkish: 'Doğrulama kodunuz 482913. İğneli fıçı, ışık. ',
  vietnamese: 'Mã xác minh của bạn là 482913. Đừng chia sẻ với ai. ',
  romanian: 'Codul dvs. este 482913. Știință și înțelepciune. ',
  icelandic: 'Kóðinn þinn er 482913. Ekki deila, ÞÐ. ',
  russian: 'Ваш код подтверждения 482913. Никому не сообщайте. ',
  ukrainian: 'Ваш код 482913. Нікому не кажіть, ґанок. ',
  greek: 'Ο κωδικός σας είναι 482913. ΔΦΓΛΩΠΨΣΘΞ. ',
  capitals: 'ΔΦΓΛΩΠΨΣΘΞ ÄÖÑÜ§¿äöñüà 482913 ',
  hebrew: 'קוד האימות שלך הוא 482913. אל תשתף. ',
  arabic: 'رمز التحقق الخاص بك هو 482913. لا تشاركه مع أحد. ',
  persian: 'کد تأیید شما ۴۸۲۹۱۳ است. می‌خواهم. ',
  hindi: 'आपका सत्यापन कोड 482913 है। किसी को न बताएं, क्षमा। ',
  bengali: 'আপনার যাচাইকরণ কোড 482913। কাউকে বলবেন না। ',
  tamil: 'உங்கள் சரிபார்ப்புக் குறியீடு 482913. பகிர வேண்டாம். ',
  telugu: 'మీ ధృవీకరణ కోడ్ 482913. ఎవరికీ చెప్పవద్దు. ',
  thai: 'รหัสยืนยันของคุณคือ 482913 ห้ามบอกใคร น้ำ. ',
  lao: 'ລະຫັດຢືນຢັນຂອງທ່ານແມ່ນ 482913 ນໍ້າ. ',
  khmer: 'លេខកូដផ្ទៀងផ្ទាត់របស់អ្នកគឺ 482913។ ',
  burmese: 'သင့်အတည်ပြုကုဒ်မှာ 482913 ဖြစ်သည်။ ',
  georgian: 'თქვენი კოდია 482913. არავის უთხრათ. ',
  armenian: 'Ձեր կոդն է 482913։ Մի կիսվեք։ ',
  amharic: 'የእርስዎ ኮድ 482913 ነው። ለማንም አይንገሩ። ',
  chinese: '您的验证码是482913,请勿告诉他人。',
  japanese: '認証コードは482913です。他人に教えないでください。ガｶﾞ',
  korean: '인증번호는 482913입니다. 타인에게 알려주지 마세요. ',
  jamo: '\u1112\u1161\u11ab\u1100\u1173\u11af 482913 ',
  emoji: 'Tu código 🔑 482913 ✅ 🎉 ',
  families: '👨‍👩‍👧 👍🏽 🇨🇴🇲🇽 ❤️ ',
  rare: '𝒜𝒷 𐍈 𠜎 ',
  extension: '{[~]}^|\\€ 482913 ',
  quotes: '“hola” ‘tú’ – fin… ya\u00a0está „zo” ‚so‘ ',
  marks: 'e\u0301n\u0303a\u0308o\u0302 482913 ',
  odd: 'a\u200bb\u2060c\ufeffd\u00ade\tf ',
  lines: 'Código: 482913\n\n@shop.example #482913\n',
  windows: 'Code: 482913\r\nNo lo comparta.\r\n',
  typographic: 'Łukasz Đorđe Œuvre · • ‹x› ″ ′ ´ ` ',
  currency: '€ £ ¥ $ ¤ ₹ ₽ ¢ ',
};

// Cut between characters, and never inside of what a calculator takes for one.
const cut = (text, units) => {
  let taken = '';
  for (const character of text.repeat(1 + Math.ceil(units / text.length))) {
    if (taken.length + character.length > units) break;
    taken += character;
  }
  return taken;
};

const texts = new Set(['', 'a', '\f', '\n', '`', 'ç', 'Ç', '@', '_']);
for (const word of Object.values(words)) {
  texts.add(word.trim());
  for (const units of [70, 71, 134, 135, 160, 161, 202, 307]) texts.add(cut(word, units));
  texts.add(`${cut(words.english, 60)}${cut(word, 30)}`);
}
for (const character of ['a', 'á', '€', '🔑', '🇨🇴', '👍🏽', 'क्ष', '\u1100\u1161', 'e\u0301'])
  for (const count of [1, 33, 35, 36, 67, 70, 71, 77, 81, 134])
    texts.add(character.repeat(count));

const said = JSON.parse(
  execFileSync(binary, ['templates', 'measure', '--json'], {
    input: JSON.stringify([...texts]),
    maxBuffer: 1 << 28,
    env: { PATH: process.env.PATH, ENVIRONMENT: 'development' },
    cwd: installed,
  }),
);

const calculated = (text) => {
  const message = new SegmentedMessage(text);
  const encoding = { 'GSM-7': 'gsm7', 'UCS-2': 'ucs2' }[message.encodingName];
  return { encoding, units: message.messageSize / (encoding === 'gsm7' ? 7 : 16), segments: message.segmentsCount };
};

let differences = 0;
const golden = [];
for (const { text, encoding, units, segments, folded } of said) {
  for (const ours of [{ text, encoding, units, segments }, folded]) {
    const theirs = calculated(ours.text);
    if (JSON.stringify(theirs) !== JSON.stringify({ encoding: ours.encoding, units: ours.units, segments: ours.segments })) {
      differences += 1;
      const { text: of, ...cost } = ours;
      console.log('differs', JSON.stringify(of.slice(0, 60)), 'ours', cost, 'theirs', theirs);
    }
  }
  const folds = folded.text === text ? {} : { folded: { text: folded.text, ...calculated(folded.text) } };
  golden.push({ text, ...calculated(text), ...folds });
}
const folding = golden.filter((row) => row.folded).length;
console.log(`${golden.length} texts, ${folding} of them also folded: ${differences} differences from sms-segments-calculator ${version}`);

if (mode === '--write') {
  const rows = golden.map((row) => `  ${JSON.stringify(row)}`).join(',\n');
  const by = `sms-segments-calculator ${version}`;
  writeFileSync('tests/it/golden/segments.json', `{"by": ${JSON.stringify(by)}, "texts": [\n${rows}\n]}\n`);
}
process.exitCode = differences === 0 ? 0 : 1;
